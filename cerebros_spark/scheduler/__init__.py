"""The scheduler: decides which trial trains on which worker next.

It takes events and returns instructions. It does no I/O, reads no clock and starts no thread, so
tests can drive it through any sequence of failures.
"""
