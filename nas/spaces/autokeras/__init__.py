"""Spaces of AutoKeras graphs: their blocks, assembly and overrides."""
