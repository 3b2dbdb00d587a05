"""AutoKeras graphs as a search space: assembly, normalization, blocks and overrides."""
