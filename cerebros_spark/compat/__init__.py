"""Private attributes of other libraries, one module per library.

Each module names the versions it was tested with. Its test fails when an attribute is gone.
"""
