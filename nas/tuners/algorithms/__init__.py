"""Tuners, one algorithm a file."""
