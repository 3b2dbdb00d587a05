"""Hash buckets for the categories of a column that have no separate code.

The Keras layer ``Hashing`` computes the same buckets, so that exported models need no code of this
package.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable

import numpy as np
from siphash24 import siphash24

HASH_KEY = (1, 2)
"""Both halves of the key of SipHash-2-4; the ``salt`` of the layer ``keras.layers.Hashing``."""

MAX_BUCKETS = 4096
"""Maximum number of buckets per column."""

_KEY = struct.pack("<QQ", *HASH_KEY)


def choose_buckets(distinct: int, known: int) -> int:
    """Return the number of hash buckets for the categories of a column that are not kept.

    A bucket has about eight categories on average, so few buckets are empty and thus untrained.

    Args:
        distinct: Estimated number of categories.
        known: Number of kept categories, which have separate codes.
    """
    return min(max((distinct - known) // 8, 1), MAX_BUCKETS)


def find_buckets(values: Iterable[str], buckets: int) -> np.ndarray:
    """Return the bucket of each string, 0 to ``buckets - 1``, as int32 (SipHash-2-4 of UTF-8)."""
    digests = (siphash24(value.encode(), key=_KEY).digest() for value in values)
    return np.fromiter((int.from_bytes(each, "little") % buckets for each in digests), np.int32)
