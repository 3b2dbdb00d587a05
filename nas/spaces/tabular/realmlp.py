"""RealMLP, a multi-layer perceptron for tables, made of built-in Keras layers.

Holzmüller, Grinsztajn and Steinwart, "Better by Default: Strong Pre-Tuned MLPs and Boosted Trees on
Tabular Data", NeurIPS 2024 (arXiv 2407.04491), section 3 and appendix A. Some weights have a
learning-rate factor ``c``. Adam's steps do not depend on the scale of gradients, so the stored
weight is divided by ``c``, and the network multiplies it by ``c``.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import keras
from keras import layers

from cerebros_spark.data.table.schema import MatrixLayout
from cerebros_spark.training.keras.schedules import CosLog4
from nas.spaces.tabular.embeddings import NumberEmbedding
from nas.spaces.tabular.ends import NetworkEnds, embed_matrix, join
from nas.spaces.tabular.training import make_adamw

_BIAS_FACTOR = 0.1
_ACTIVATION_FACTOR = 0.1


@dataclass(frozen=True)
class RealMLPValues:
    """Hyperparameters of the layers before the heads; the defaults are those of RealMLP-TD.

    Attributes:
        hidden_layers: Number of hidden layers.
        width: Number of units in each hidden layer.
        dropout: Dropout rate after each hidden layer.
        activation: ``"selu"`` or ``"mish"``.
        embedding: Hyperparameters of the embedding of numbers.
        scaling_factor: Learning-rate factor of the scaling layer.
        first_factor: Learning-rate factor of the first hidden layer.
    """

    hidden_layers: int = 3
    width: int = 256
    dropout: float = 0.15
    activation: str = "selu"
    embedding: NumberEmbedding = field(default_factory=NumberEmbedding)
    scaling_factor: float = 6.0
    first_factor: float = 1.0


def build_realmlp(hp: Any, ends: NetworkEnds, steps: int, active: bool) -> Any:
    """Build RealMLP with the search space of TabArena (arXiv 2407.04491, table C.1).

    Hyperparameters that change the traced training step have few values, so that trials share
    traces. ``ends`` contains the network's inputs and outputs, and ``steps`` is the trial's number
    of training steps. Return the output tensors and the optimizer. If ``active`` is False, only
    declare the hyperparameters and return None.
    """
    values = RealMLPValues(
        hidden_layers=hp.Int("hidden_layers", 2, 4, default=3),
        width=hp.Choice("width", [128, 256, 384], default=256),
        dropout=hp.Choice("dropout", [0.0, 0.15, 0.3, 0.45], default=0.15),
        activation=hp.Choice(
            "activation", ["mish", "selu"], default="mish" if ends.is_regression else "selu"
        ),
        embedding=NumberEmbedding(
            ends.frequencies,
            scale=hp.Float("embedding_scale", 0.01, 10.0, sampling="log", default=0.1),
        ),
        first_factor=hp.Choice("first_factor", [0.5, 1.0], default=1.0),
    )
    usual = 0.2 if ends.is_regression else 0.04
    rate = hp.Float("learning_rate", 0.01, 0.3, sampling="log", default=usual)
    decay = hp.Float("weight_decay", 0.001, 0.05, sampling="log", default=0.02)
    beta = hp.Choice("one_minus_beta2", [0.05, 0.01], default=0.05)
    if not active:
        return None
    bodies = [
        build_body(tensor, front, values, f"input{i}")
        for i, (tensor, front) in enumerate(zip(ends.inputs, ends.fronts, strict=True))
    ]
    heads = ends.add_heads(
        join(bodies), lambda body, units, name: dense(body, units, 1.0, name, zeros=True)
    )
    return heads, make_adamw(CosLog4(rate, steps, fades=True), 1 - beta, decay)


def build_body(matrix: Any, layout: MatrixLayout, values: RealMLPValues, prefix: str) -> Any:
    """Build the layers of one input, from its matrix to the last hidden layer.

    Args:
        matrix: Keras tensor of shape ``(rows, layout.width)``.
        layout: Layout of the matrix.
        values: Hyperparameters of the layers.
        prefix: Prefix of the layer names.

    Returns:
        A Keras tensor of shape ``(rows, values.width)``.
    """
    tensor = embed_matrix(matrix, layout, values.embedding, prefix)
    tensor = _scale(tensor, values.scaling_factor, 1.0, f"{prefix}_scale")
    for number in range(values.hidden_layers):
        factor = values.first_factor if number == 0 else 1.0
        tensor = dense(tensor, values.width, factor, f"{prefix}_hidden{number}")
        tensor = _activate(tensor, values.activation, f"{prefix}_activation{number}")
        if values.dropout:
            tensor = layers.Dropout(values.dropout, name=f"{prefix}_dropout{number}")(tensor)
    return tensor


def dense(tensor: Any, units: int, factor: float, name: str, *, zeros: bool = False) -> Any:
    """Apply a Dense layer whose training steps do not depend on the number of its inputs.

    The layer is ``W·x / sqrt(inputs) + b`` with weights of initial variance 1 ("NTK
    parametrization", arXiv 2407.04491, section 3).

    Args:
        tensor: Keras tensor of shape ``(rows, inputs)``.
        units: Number of outputs.
        factor: Learning-rate factor of the weights ``W``.
        name: Name of the layer.
        zeros: Whether weights and biases are initially 0.

    Returns:
        A Keras tensor of shape ``(rows, units)``.
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
    """Multiply each column by a trained weight with the initial value ``start``."""
    layer = layers.EinsumDense(
        "bd,d->bd",
        (tensor.shape[-1],),
        kernel_initializer=keras.initializers.Constant(start / factor),
        name=name,
    )
    return layer(tensor * factor)


def _activate(tensor: Any, activation: str, name: str) -> Any:
    """Apply ``x + a * (f(x) - x)``, where f is ``activation`` and a is trainable for each unit."""
    change = layers.Activation(activation)(tensor) - tensor
    return tensor + _scale(change, _ACTIVATION_FACTOR, 1.0, name)
