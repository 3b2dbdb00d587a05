"""Dropout (Srivastava et al., JMLR 2014) with masks hashed from the positions of their values.

When compiled by XLA for a CPU, TensorFlow's random number generators take a microsecond per number,
a hundred times as long as the rest of a step. So each number is hashed from its position with
MurmurHash3's finalizer, as in a splittable generator (Steele, Lea and Flood, OOPSLA 2014).
"""

from __future__ import annotations

from typing import Any

import tensorflow as tf


class DropoutMasks:
    """Generator of the dropout masks for one training step of one network.

    Args:
        rate: Dropout rate, at least 0 and less than 1.
        seed: Dropout seed, ``() uint32``; the same for all steps of a unit of work.
        step: Number of training steps before this one, ``() int32``.
        dtype: Dtype of the masks.
    """

    def __init__(self, rate: float, seed: Any, step: Any, dtype: Any) -> None:
        self._rate = rate
        self._key = _hash(seed ^ _hash(tf.cast(step, tf.uint32) * _to_constant(0x9E3779B9)))
        self._dtype = dtype

    def mask(self, unit: Any, slots: int, batch: int) -> Any:
        """Return the mask ``(slots, batch)`` of a unit, with values 0 and ``1 / (1 - rate)``.

        ``unit () int32`` is the unit's index among all hidden and output units.
        """
        key = _hash(
            self._key ^ (tf.cast(unit, tf.uint32) + _to_constant(1)) * _to_constant(0x85EBCA77)
        )
        positions = tf.reshape(tf.range(1, slots * batch + 1), (slots, batch))
        # Hash the positions before mixing in the key, too. Otherwise positions and keys that
        # combine to the same numbers would give shifted copies of one mask.
        drawn = _hash(_hash(tf.cast(positions, tf.uint32)) ^ key)
        kept = drawn >= _to_constant(min(round(self._rate * 2**32), 2**32 - 1))
        return tf.cast(kept, self._dtype) * tf.constant(1 / (1 - self._rate), self._dtype)


def _hash(values: Any) -> Any:
    """Hash ``uint32`` values of any shape; each bit of a hash depends on all bits of its value."""
    values = (values ^ tf.bitwise.right_shift(values, _to_constant(16))) * _to_constant(0x85EBCA6B)
    values = (values ^ tf.bitwise.right_shift(values, _to_constant(13))) * _to_constant(0xC2B2AE35)
    return values ^ tf.bitwise.right_shift(values, _to_constant(16))


def _to_constant(value: int) -> Any:
    return tf.constant(value, tf.uint32)
