"""Values and helpers that do no I/O, for every other folder.

Errors, types that cross folders, the scheduler's events, named random seeds, retries, checks of
arguments, and pickling of user code for Spark.
"""
