"""Access to private attributes of libraries that the search uses; one module per library."""
