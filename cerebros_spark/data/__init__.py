"""Data: from DataFrames and arrays to shards, and from shards to batches."""
