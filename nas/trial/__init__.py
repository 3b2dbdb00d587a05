"""One trial of a search: its proposal, objective, state while it runs, and record.

The table holds the trials of a search, running and finished.
"""
