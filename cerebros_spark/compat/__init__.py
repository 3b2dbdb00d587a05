"""Uses of private attributes of other libraries, one module per library."""
