"""AutoKeras graphs as search spaces: default graphs, blocks, preprocessing and overrides."""
