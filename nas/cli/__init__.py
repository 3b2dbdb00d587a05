"""The command ``cerebros-spark``: search, resume, report, predict, audit and export.

It reads tables into Spark, encodes strings and classes as numbers, and stores the options of a
run beside its journal, so that later commands need the run alone. Heavy imports wait until a
command begins, so ``--help`` is quick.
"""
