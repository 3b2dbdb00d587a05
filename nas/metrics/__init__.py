"""Validation of losses and metrics against the labels of their output.

A metric that suits the labels is kept, or is converted if its meaning is clear. Any other metric is
rejected before training.
"""
