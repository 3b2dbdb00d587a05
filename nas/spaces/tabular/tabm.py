"""TabM, an ensemble of perceptrons that share most weights, made mostly of Keras layers.

Gorishniy, Kotelnikov and Babenko, "TabM: Advancing Tabular Deep Learning with Parameter-Efficient
Ensembling", ICLR 2025 (arXiv 2410.24210), section 3. Each ensemble member has separate vectors that
scale the inputs and outputs of the shared layers. Numbers are embedded by cosines, as in RealMLP.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import keras
from keras import layers

from cerebros_spark.training.keras.member_losses import MemberLosses
from nas.spaces.tabular.embeddings import NumberEmbedding
from nas.spaces.tabular.ends import NetworkEnds
from nas.spaces.tabular.training import make_warm_adamw

#: Names of the losses whose mean over the members can be computed, by output activation.
MEMBER_LOSSES = {
    "linear": ("meansquarederror",),
    "sigmoid": ("binarycrossentropy",),
    "softmax": ("categoricalcrossentropy", "sparsecategoricalcrossentropy"),
}

# A quarter of the paper's number, because on CPUs the time of a step is proportional to it.
_MEMBERS = 8
_EMBEDDING_SIZE = 8


@dataclass(frozen=True)
class TabMValues:
    """Hyperparameters of the hidden layers.

    Attributes:
        members: Number of ensemble members.
        blocks: Number of hidden layers.
        width: Number of units in each hidden layer.
        dropout: Dropout rate after each hidden layer.
    """

    members: int = _MEMBERS
    blocks: int = 2
    width: int = 128
    dropout: float = 0.1


def build_tabm(hp: Any, ends: NetworkEnds, steps: int, active: bool) -> Any:
    """Build TabM.

    ``ends`` contains the network's inputs and outputs, and ``steps`` is the trial's number of
    training steps. Return the output tensors and the optimizer. If ``active`` is False, only
    declare the hyperparameters and return None.
    """
    values = TabMValues(
        blocks=hp.Int("blocks", 1, 4, default=2),
        width=hp.Choice("width", [64, 128, 256], default=128),
        dropout=hp.Choice("dropout", [0.0, 0.1, 0.3, 0.5], default=0.1),
    )
    scale = hp.Float("embedding_scale", 0.01, 10.0, sampling="log", default=0.3)
    rate = hp.Float("learning_rate", 1e-4, 5e-3, sampling="log", default=2e-3)
    decay = hp.Float("weight_decay", 1e-4, 0.1, sampling="log", default=3e-4)
    if not active:
        return None
    embedding = NumberEmbedding(ends.frequencies, _EMBEDDING_SIZE, scale)
    body = build_members(ends.embed(embedding), values)
    outputs = {
        f"{output.name}_raw": (output, weight)
        for output, weight in zip(ends.outputs, ends.loss_weights, strict=True)
    }

    def join(body: Any, units: int, name: str) -> Any:
        output, weight = outputs[name]
        factors = [weight * each for each in output.variance or (1.0,)]
        return join_members(body, units, output.activation, factors, name)

    return ends.add_heads(body, join), make_warm_adamw(rate, steps, decay)


def build_members(tensor: Any, values: TabMValues, prefix: str = "tabm") -> Any:
    """Build the hidden layers of all members.

    Args:
        tensor: Keras tensor of shape ``(rows, inputs)``.
        values: Hyperparameters of the hidden layers.
        prefix: Prefix of the layer names.

    Returns:
        A Keras tensor of shape ``(rows, members, width)``.
    """
    # Initially, the members differ only in the scales of their inputs.
    random = keras.initializers.RandomNormal(stddev=1.0)
    tensor = _scale(tensor, values.members, random, f"{prefix}_input_scale", "bd,kd->bkd")
    for number in range(values.blocks):
        if number:
            tensor = _scale(tensor, values.members, "ones", f"{prefix}_scale{number}")
        tensor = layers.Dense(values.width, use_bias=False, name=f"{prefix}_hidden{number}")(tensor)
        tensor = _scale(
            tensor, values.members, "ones", f"{prefix}_output_scale{number}", bias_axes="kd"
        )
        tensor = layers.Activation("relu", name=f"{prefix}_activation{number}")(tensor)
        if values.dropout:
            tensor = layers.Dropout(values.dropout, name=f"{prefix}_dropout{number}")(tensor)
    return tensor


def join_members(members: Any, units: int, activation: str, scale: list[float], name: str) -> Any:
    """Apply a separate output layer to each member, and return the mean of the results.

    Args:
        members: Keras tensor of shape ``(rows, members, width)``.
        units: Number of output values.
        activation: Activation that is later applied to the mean; see :class:`MemberLosses`.
        scale: For each output value, the factor of the term that :class:`MemberLosses` adds to the
            loss.
        name: Name of the output layer, and prefix of the names of the layers after it.

    Returns:
        A Keras tensor of shape ``(rows, units)``, before the activation.
    """
    bound = 1 / math.sqrt(members.shape[-1])
    outputs = layers.EinsumDense(
        "bkd,kdo->bko",
        (members.shape[1], units),
        bias_axes="ko",
        kernel_initializer=keras.initializers.RandomUniform(-bound, bound),
        name=name,
    )(members)
    losses = MemberLosses(activation, scale, f"{name}_losses", dtype=keras.config.floatx())
    outputs = losses(outputs)
    return layers.GlobalAveragePooling1D(name=f"{name}_mean")(outputs)


def _scale(
    tensor: Any,
    members: int,
    start: Any,
    name: str,
    equation: str = "bkd,kd->bkd",
    bias_axes: str | None = None,
) -> Any:
    """Multiply each column by a trained weight per member, with the initializer ``start``."""
    return layers.EinsumDense(
        equation,
        (members, tensor.shape[-1]),
        bias_axes=bias_axes,
        kernel_initializer=start,
        name=name,
    )(tensor)
