"""Ensembles: greedy selection, scoring, calibration and simple baseline models."""
