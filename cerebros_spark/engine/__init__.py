"""Drives scheduler and backend: assigns units, keeps states, recovers and replays runs."""
