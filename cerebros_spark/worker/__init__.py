"""Workers, each of which runs the units of work of one partition.

A worker keeps programs and states in memory and trains on one thread. A second thread writes
states, reports results and prefetches the next unit.
"""
