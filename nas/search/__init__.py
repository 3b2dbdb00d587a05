"""The loop of a search: proposes, builds, submits and records trials."""
