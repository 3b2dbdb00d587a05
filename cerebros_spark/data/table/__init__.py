"""Raw tables, with columns of any type, and their encoding as numbers.

A raw table is encoded in two steps. The shards contain *fields*, the encoded columns: scaled
numbers, with NaN for a missing value, and category codes. A network reads a *matrix*: float32
without NaN. :mod:`.schema` describes both steps, and all encoders use the same schema.
"""
