"""Search algorithms, one per module."""
