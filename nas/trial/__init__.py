"""One trial of a search: its proposal, objective, progress while it runs, and record.

The table holds the trials of a search, running and finished.
"""
