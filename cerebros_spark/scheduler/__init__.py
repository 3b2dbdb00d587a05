"""Decides which trial trains on which partition next; does no I/O."""
