"""The command ``cerebros-spark``: search, resume, report, predict, audit and export.

It reads tables into Spark, encodes strings and classes as numbers, and stores the options of a run
with its journal. Later commands therefore need only the run. Each command imports heavy modules
itself, so ``--help`` is fast.
"""
