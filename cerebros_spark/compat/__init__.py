"""Access to private attributes of other libraries, one module per library.

Each module states the version that it was verified with. Its test fails if an attribute is missing.
"""
