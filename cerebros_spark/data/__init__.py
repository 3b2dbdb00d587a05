"""Conversion of a DataFrame or arrays to shards, and of shards to batches.

Preparation validates columns, splits rows, and writes shuffled Parquet shards of equal size with a
manifest. A worker reads each shard into memory once, or streams it within a memory budget.
"""
