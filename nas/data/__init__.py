"""What users hand over as data: columns, heads, weights and values."""
