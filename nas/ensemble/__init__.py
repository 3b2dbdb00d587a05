"""Ensembles of the networks of a search: selection, calibration, and one Keras model."""
