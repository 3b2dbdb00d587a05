"""Data: a DataFrame or arrays become shards, and shards become batches.

Preparation validates columns, splits rows and writes equal shuffled shards of Parquet with a
manifest. On a worker, the shards are read into memory once, or streamed within a memory budget.
"""
