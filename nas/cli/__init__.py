"""The command ``cerebros-spark``: inspect, search, resume, report, predict, audit and export.

It reads tables into Spark, finds the types of the columns of CSV, and stores the options of a run
with its journal. Later commands therefore need only the run. Each command imports heavy modules
itself, so ``--help`` is fast.
"""
