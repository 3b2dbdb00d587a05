"""Access to private attributes of libraries, only for the search; one module per library."""
