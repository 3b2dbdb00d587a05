"""The command ``cerebros-spark`` and its subcommands, such as search, resume and predict.

It reads tables with or without Spark, infers the types of CSV columns, and stores a run's options
with its journal. Later commands therefore need only the run. Each command imports heavy modules
itself, so that ``--help`` is fast.
"""
