"""Runs the units of one partition: states and programs in memory, reports to the driver."""
