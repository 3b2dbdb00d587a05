"""Networks for tables, in several families that each have their own search space."""
