"""Bytes by key: the stores that a run's data, states and journal are kept in."""
