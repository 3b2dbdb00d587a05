"""Dropout (Srivastava et al., JMLR 2014) whose masks follow from a few numbers.

TensorFlow's own generators take a microsecond a number where XLA compiles them for a processor, a
hundred times the rest of a step. Here a number is hashed from its place, as in a splittable
generator (Steele, Lea and Flood, OOPSLA 2014), with the finalizer of MurmurHash3.
"""

from __future__ import annotations

from typing import Any

import tensorflow as tf


class Dropping:
    """Leaves out a share of what is merged, and makes the rest larger by as much.

    Args:
        rate: The share.
        seed: Another network, or another visit, has another: a scalar, ``uint32``.
        step: So has another step: a whole number.
        dtype: Type of the masks.
    """

    def __init__(self, rate: float, seed: Any, step: Any, dtype: Any) -> None:
        self._rate = rate
        self._key = _mixed(seed ^ _mixed(tf.cast(step, tf.uint32) * _constant(0x9E3779B9)))
        self._dtype = dtype

    def mask(self, unit: Any, slots: int, batch: int) -> Any:
        """What each slot of a unit counts for each row, ``(slots, batch)``."""
        key = _mixed(self._key ^ (tf.cast(unit, tf.uint32) + _constant(1)) * _constant(0x85EBCA77))
        places = tf.reshape(tf.range(1, slots * batch + 1), (slots, batch))
        # Mixed before the key comes to them, too: places and keys that add up to the same would
        # give masks that are one another, shifted.
        drawn = _mixed(_mixed(tf.cast(places, tf.uint32)) ^ key)
        kept = drawn >= _constant(min(round(self._rate * 2**32), 2**32 - 1))
        return tf.cast(kept, self._dtype) * tf.constant(1 / (1 - self._rate), self._dtype)


def _mixed(values: Any) -> Any:
    """Each number as another one of which each bit depends on all of its bits."""
    values = (values ^ tf.bitwise.right_shift(values, _constant(16))) * _constant(0x85EBCA6B)
    values = (values ^ tf.bitwise.right_shift(values, _constant(13))) * _constant(0xC2B2AE35)
    return values ^ tf.bitwise.right_shift(values, _constant(16))


def _constant(value: int) -> Any:
    return tf.constant(value, tf.uint32)
