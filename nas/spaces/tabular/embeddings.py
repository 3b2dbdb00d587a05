"""Embedding of numbers by cosines, shared by several families.

This is the "PBLD" embedding of Holzmüller, Grinsztajn and Steinwart (arXiv 2407.04491, appendix
A.1). It keeps each number and adds a linear map of cosines of the number. Each numeric column has
separate weights.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import keras
from keras import layers, ops

# Factor of the learning rate. Adam's steps do not depend on the scale of gradients, so the stored
# weights are divided by the factor, and the network multiplies by it.
_FACTOR = 0.1


@dataclass(frozen=True)
class NumberEmbedding:
    """Hyperparameters of the embedding of numbers; the defaults are those of RealMLP-TD.

    Attributes:
        frequencies: Number of cosines per number.
        size: Number of values by which each number is represented, including the number itself.
        scale: Standard deviation of the initial frequencies.
    """

    frequencies: int = 16
    size: int = 4
    scale: float = 0.1


def embed_numbers(numbers: Any, count: int, embedding: NumberEmbedding, prefix: str) -> Any:
    """Represent each number by ``embedding.size`` values: itself, and a map of its cosines.

    Args:
        numbers: Keras tensor of shape ``(rows, count)``.
        count: Number of numeric columns.
        embedding: Hyperparameters of the embedding.
        prefix: Prefix of the layer names.

    Returns:
        A Keras tensor of shape ``(rows, count * embedding.size)``.
    """
    size, frequencies = embedding.size - 1, embedding.frequencies
    normal = keras.initializers.RandomNormal(stddev=2 * math.pi * embedding.scale / _FACTOR)
    phases = keras.initializers.RandomUniform(-math.pi / _FACTOR, math.pi / _FACTOR)
    bound = 1 / math.sqrt(frequencies) / _FACTOR
    uniform = keras.initializers.RandomUniform(-bound, bound)
    angles = layers.EinsumDense(
        "bd,df->bdf",
        (count, frequencies),
        bias_axes="df",
        kernel_initializer=normal,
        bias_initializer=phases,
        name=f"{prefix}_frequencies",
    )(numbers)
    mixed = layers.EinsumDense(
        "bdf,dfe->bde",
        (count, size),
        bias_axes="de",
        kernel_initializer=uniform,
        bias_initializer=uniform,
        name=f"{prefix}_embedding",
    )(ops.cos(angles * _FACTOR))
    joined = layers.Concatenate()([ops.expand_dims(numbers, -1), mixed * _FACTOR])
    return layers.Reshape((count * embedding.size,))(joined)
