"""Values and helpers without I/O, for every other folder.

Errors, types that cross folders, scheduler events, named random seeds, retries, argument checks,
and pickling of user code for Spark.
"""
