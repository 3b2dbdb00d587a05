"""Search loop: proposes, builds, submits and records trials."""
