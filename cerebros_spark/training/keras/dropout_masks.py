"""Dropout masks from 16 random bits per value.

For ``Dropout`` layers, TensorFlow draws 32 bits per value and converts them to a fraction. In a
small network, this takes as long as a matrix product.
"""

from __future__ import annotations

import functools
from typing import Any

import tensorflow as tf
from keras import layers

from cerebros_spark.compat.keras import flatten_layers

_LEAST, _GREATEST = -(2**15), 2**15 - 1


def draw_short_masks(model: Any) -> None:
    """Make a model's ``Dropout`` layers draw 16 random bits per value.

    The probability that a value is dropped differs from the layer's rate by less than 1e-5. Call
    this before the model is traced. Layers of derived classes do not change.
    """
    for layer in flatten_layers(model):
        if type(layer) is layers.Dropout and 0 < layer.rate < 1:
            layer.call = functools.partial(_call, layer)


def drop(layer: Any, inputs: Any, rate: Any) -> Any:
    """Return a tensor with random values set to 0 and the others scaled, as ``Dropout`` does.

    Args:
        layer: The ``Dropout`` layer, whose seed generator and noise shape are used.
        inputs: Tensor of any shape.
        rate: Probability that a value is dropped, less than 1: a number or a scalar tensor.
    """
    values = tf.convert_to_tensor(inputs)
    sizes = layer.noise_shape or [None] * len(values.shape)
    shape = [tf.shape(values)[i] if size is None else size for i, size in enumerate(sizes)]
    count = tf.reduce_prod(shape)
    seed = tf.cast(layer.seed_generator.next(), tf.int64)
    pairs = tf.random.stateless_uniform(
        [(count + 1) // 2], seed, minval=None, maxval=None, dtype=tf.int32
    )
    bits = tf.reshape(tf.bitcast(pairs, tf.int16), [-1])[:count]
    limit = tf.cast(tf.round(tf.cast(rate, tf.float32) * 2.0**16), tf.int32) + _LEAST
    limit = tf.cast(tf.minimum(limit, _GREATEST), tf.int16)
    kept = tf.cast(tf.reshape(bits >= limit, shape), values.dtype)
    scale = 1 / (1 - rate)
    # tf.cast() would make a float32 of a Python number first.
    is_number = isinstance(scale, float)
    scale = tf.constant(scale, values.dtype) if is_number else tf.cast(scale, values.dtype)
    return values * (kept * scale)


def _call(layer: Any, inputs: Any, training: Any = False) -> Any:
    """Apply a ``Dropout`` layer; replaces ``Dropout.call``."""
    return drop(layer, inputs, layer.rate) if training else inputs
