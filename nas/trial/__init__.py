"""Data of a trial: proposal, objective, progress while it runs, and record.

The table contains the running and ended trials of a search.
"""
