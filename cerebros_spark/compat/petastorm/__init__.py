"""Support for Petastorm 0.13.1 with current libraries: pyarrow 15 and newer, NumPy 2, Python 3.12.

Petastorm uses names that these libraries no longer have. :func:`.loading.load_petastorm` imports
it with replacements for them that only Petastorm's modules see. This was verified for Petastorm
0.13.1 with pyarrow 14 and NumPy 1.26 (no replacements), and with pyarrow 26 and NumPy 2.5.
"""
