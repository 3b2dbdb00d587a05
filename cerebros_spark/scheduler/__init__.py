"""Scheduler, which decides which trial trains on which worker next.

It takes events and returns instructions. It does no I/O, reads no clock and starts no threads, so
tests can simulate any sequence of failures. A *unit* is a unit of work: one visit of a trial to a
partition, for training or validation.
"""
