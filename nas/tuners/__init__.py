"""Tuners, which choose the hyperparameter values of the next trial.

A tuner works on a known search space and never proposes the same values twice. Equal seeds and
equal results give equal proposals.
"""
