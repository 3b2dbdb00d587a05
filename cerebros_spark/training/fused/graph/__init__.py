"""The structure of networks as arrays.

A trial's program is parsed into a network of units, and padded to the shape of its group. The
wiring becomes a vector of indices, so networks of one padded shape share one compiled program.
"""
