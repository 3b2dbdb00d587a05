"""RealMLP, a multi-layer perceptron for tables, from layers that are built into Keras.

Holzmüller, Grinsztajn and Steinwart, "Better by Default: Strong Pre-Tuned MLPs and Boosted Trees on
Tabular Data", NeurIPS 2024 (arXiv 2407.04491), section 3 and appendix A. A weight whose learning
rate has the factor ``c`` is stored divided by ``c`` and multiplied by it in the network, because
Adam's steps do not depend on the scale of gradients.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import keras
from keras import layers, ops

from cerebros_spark.data.table.schema import MatrixLayout
from nas.spaces.front import embed_codes

_BIAS_FACTOR = 0.1
_ACTIVATION_FACTOR = 0.1
_EMBEDDING_FACTOR = 0.1


@dataclass(frozen=True)
class RealMLPValues:
    """Hyperparameters of the body; the defaults are those of RealMLP-TD.

    Attributes:
        hidden_layers: Number of hidden layers.
        width: Number of units in each hidden layer.
        dropout: Dropout rate after each hidden layer.
        activation: ``"selu"`` or ``"mish"``.
        frequencies: Number of frequencies of the embedding of a number.
        embedding_size: Size of that embedding, including the number itself.
        embedding_scale: Standard deviation of the frequencies at the start.
        scaling_factor: Factor of the learning rate of the scaling layer.
        first_factor: Factor of the learning rate of the first hidden layer.
    """

    hidden_layers: int = 3
    width: int = 256
    dropout: float = 0.15
    activation: str = "selu"
    frequencies: int = 16
    embedding_size: int = 4
    embedding_scale: float = 0.1
    scaling_factor: float = 6.0
    first_factor: float = 1.0


def build_body(matrix: Any, layout: MatrixLayout, values: RealMLPValues, prefix: str) -> Any:
    """Build the network up to its last hidden layer.

    Args:
        matrix: Keras tensor of shape ``(rows, layout.width)``.
        layout: Layout of the matrix.
        values: Hyperparameters.
        prefix: Prefix of the names of the layers.

    Returns:
        A tensor of shape ``(rows, values.width)``.
    """
    tensor = embed_codes(matrix, layout, prefix)
    if layout.numbers:
        embedded = embed_numbers(tensor[:, : layout.numbers], layout.numbers, values, prefix)
        rest = tensor[:, layout.numbers :]
        has_rest = layout.width > layout.numbers
        tensor = layers.Concatenate()([embedded, rest]) if has_rest else embedded
    tensor = _scale(tensor, values.scaling_factor, 1.0, f"{prefix}_scale")
    for number in range(values.hidden_layers):
        factor = values.first_factor if number == 0 else 1.0
        tensor = dense(tensor, values.width, factor, f"{prefix}_hidden{number}")
        tensor = _activate(tensor, values.activation, f"{prefix}_activation{number}")
        if values.dropout:
            tensor = layers.Dropout(values.dropout, name=f"{prefix}_dropout{number}")(tensor)
    return tensor


def embed_numbers(numbers: Any, count: int, values: RealMLPValues, prefix: str) -> Any:
    """Embed each number by cosines with weights of its own ("PBLD", appendix A.1 of the paper).

    Returns:
        A tensor of shape ``(rows, count * embedding_size)``.
    """
    factor = _EMBEDDING_FACTOR
    size = values.embedding_size - 1
    normal = keras.initializers.RandomNormal(stddev=2 * math.pi * values.embedding_scale / factor)
    phases = keras.initializers.RandomUniform(-math.pi / factor, math.pi / factor)
    uniform = keras.initializers.RandomUniform(
        -1 / math.sqrt(values.frequencies) / factor, 1 / math.sqrt(values.frequencies) / factor
    )
    angles = layers.EinsumDense(
        "bd,df->bdf",
        (count, values.frequencies),
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
    )(ops.cos(angles * factor))
    joined = layers.Concatenate()([ops.expand_dims(numbers, -1), mixed * factor])
    return layers.Reshape((count * values.embedding_size,))(joined)


def dense(tensor: Any, units: int, factor: float, name: str, *, zeros: bool = False) -> Any:
    """Apply a Dense layer whose steps do not depend on the number of its inputs.

    The layer is ``W·x / sqrt(inputs) + b`` with weights of variance 1 (section 3 of the paper, "NTK
    parametrization").

    Args:
        tensor: Keras tensor of shape ``(rows, inputs)``.
        units: Number of outputs.
        factor: Factor of the learning rate of the weights.
        name: Name of the layer.
        zeros: Whether all weights are 0 at the start.
    """
    bias_factor = _BIAS_FACTOR
    scale = factor / (bias_factor * math.sqrt(tensor.shape[-1]))
    weights = keras.initializers.RandomNormal(stddev=1.0 / factor)
    biases = keras.initializers.RandomNormal(stddev=1.0 / bias_factor)
    layer = layers.Dense(
        units,
        kernel_initializer="zeros" if zeros else weights,
        bias_initializer="zeros" if zeros else biases,
        name=name,
    )
    return layer(tensor * scale) * bias_factor


def _scale(tensor: Any, factor: float, start: float, name: str) -> Any:
    """Multiply each value by a weight."""
    layer = layers.EinsumDense(
        "bd,d->bd",
        (tensor.shape[-1],),
        kernel_initializer=keras.initializers.Constant(start / factor),
        name=name,
    )
    return layer(tensor * factor)


def _activate(tensor: Any, activation: str, name: str) -> Any:
    """Apply ``x + α·(f(x) - x)`` with a weight α for each unit (appendix A.1 of the paper)."""
    change = layers.Activation(activation)(tensor) - tensor
    return tensor + _scale(change, _ACTIVATION_FACTOR, 1.0, name)
