"""Ensembles: greedy selection, scores, calibration, and simple models beside them."""
