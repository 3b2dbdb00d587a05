"""A finished search: its networks, scores and output columns."""
