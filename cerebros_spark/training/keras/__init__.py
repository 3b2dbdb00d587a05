"""Trains one Keras model: programs, checkpoints, metrics, callbacks and weights of rows."""
