"""Validation of losses and metrics against the labels of their output.

A metric that suits the labels is kept or converted; any other metric is rejected before training.
"""
