"""Parsing of Cerebros networks, and encoding of their structure as arrays.

A trial's program is parsed into a network of units and padded to its group's sizes. The network's
wiring becomes an integer vector, so networks with the same padded shape share one compiled program.
"""
