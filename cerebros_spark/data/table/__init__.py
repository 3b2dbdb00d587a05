"""Tables as users have them: raw columns of any type, and their encoding as numbers.

A raw table becomes numbers in two steps. *Fields* are what the shards hold: scaled numbers with NaN
for a missing value, and codes of categories. The *matrix* is what a network reads: float32 without
NaN. :mod:`.schema` describes both steps, and everything that encodes reads the same schema.
"""
