"""The search configuration: what the user bound and passed, checked before any work.

It also prepares or finds the data of a search, and compares the configuration with that of a run
in the store before it resumes that run.
"""
