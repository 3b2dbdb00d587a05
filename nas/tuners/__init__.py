"""Algorithms that choose trials, and what they share."""
