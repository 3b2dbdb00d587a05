"""Private attributes of libraries that only the search uses, one module per library."""
