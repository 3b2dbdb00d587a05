"""Values and helpers that all other packages use.

Errors, types that packages exchange, scheduler events, named random seeds, retries, argument
checks, and pickling of user code for Spark.
"""
