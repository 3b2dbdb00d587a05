"""Tuners: choose the hyperparameter values of the next trial.

A tuner works on a known search space. It proposes no values twice, and for the same seed and the
same results it proposes the same values.
"""
