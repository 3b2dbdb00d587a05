"""Workers, each of which runs the units of work of one partition.

A worker keeps compiled programs and model states in memory and trains on one thread. A second
thread writes states, reports results and prefetches the next units' states.
"""
