"""Losses and metrics against labels: which suit, and how they are computed."""
