"""The worker: runs the units of one partition.

It keeps programs and states in memory, trains on one thread, and writes states, reports results
and prefetches the next unit on another.
"""
