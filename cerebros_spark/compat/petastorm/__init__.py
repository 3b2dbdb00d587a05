"""Petastorm 0.13.1 on the libraries of today: pyarrow 15 and newer, NumPy 2, Python 3.12.

Petastorm uses names that these libraries no longer have. :func:`.loading.load_petastorm` imports
it with replacements that only Petastorm's modules see. Seen to work with Petastorm 0.13.1 on
pyarrow 14 and NumPy 1.26 (without replacements), and on pyarrow 26 and NumPy 2.5.
"""
