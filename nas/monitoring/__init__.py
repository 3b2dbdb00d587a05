"""Observers of a search: the progress bar, TensorBoard and MLflow.

An observer receives an epoch after the journal has recorded it. An error in an observer is logged
as a warning.
"""
