"""Observers of a search: the progress bar, TensorBoard and MLflow.

An observer receives an epoch after it is in the journal. An observer that fails is a warning.
"""
