"""Networks for tables: families with the search space that works best for each."""
