"""Masks of ``Dropout`` layers from 16 random bits for each value.

TensorFlow draws 32 bits and converts them to a fraction. In a small network, that takes as long as
a product of matrices.
"""

from __future__ import annotations

import functools
from typing import Any

import tensorflow as tf
from keras import layers

from cerebros_spark.compat.keras import flatten_layers

_LEAST, _GREATEST = -(2**15), 2**15 - 1


def draw_short_masks(model: Any) -> None:
    """Let the ``Dropout`` layers of a model draw 16 bits for each value.

    The probability that a value is dropped differs from the layer's rate by less than 1e-5. Call
    this before the model is traced. Layers of derived classes are kept.
    """
    for layer in flatten_layers(model):
        if type(layer) is layers.Dropout and 0 < layer.rate < 1:
            layer.call = functools.partial(_call, layer)


def drop(layer: Any, inputs: Any, rate: Any) -> Any:
    """Drop values of a tensor with a probability, and scale the others, as ``Dropout`` does.

    Args:
        layer: The layer, whose generator draws the mask.
        inputs: Tensor of any shape.
        rate: The probability, a number or a tensor, below 1.
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
    """Do what ``Dropout.call`` does."""
    return drop(layer, inputs, layer.rate) if training else inputs
