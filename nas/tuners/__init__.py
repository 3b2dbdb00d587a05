"""Tuners, which choose the hyperparameter values of each trial.

A tuner searches the space known so far and never proposes the same values twice. Equal seeds and
equal trial results give equal proposals.
"""
