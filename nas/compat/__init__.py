"""Uses of private attributes of libraries that only the search needs, one module per library."""
