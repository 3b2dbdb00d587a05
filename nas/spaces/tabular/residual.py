"""Residual perceptrons (Gorishniy et al., arXiv 2106.11959, section 3.2)."""

from __future__ import annotations

from typing import Any

from keras import layers

from nas.spaces.tabular.ends import NetworkEnds
from nas.spaces.tabular.training import make_warm_adamw


def build_residual(hp: Any, ends: NetworkEnds, steps: int, active: bool) -> Any:
    """Build a residual perceptron.

    ``ends`` contains the network's inputs and outputs, and ``steps`` is the trial's number of
    training steps. Return the output tensors and the optimizer. If ``active`` is False, only
    declare the hyperparameters and return None.
    """
    blocks = hp.Int("blocks", 1, 4, default=2)
    width = hp.Choice("width", [64, 128, 256], default=128)
    dropout = hp.Choice("dropout", [0.0, 0.2, 0.4], default=0.2)
    rate = hp.Float("learning_rate", 1e-4, 5e-3, sampling="log", default=1e-3)
    decay = hp.Float("weight_decay", 1e-4, 0.1, sampling="log", default=1e-2)
    if not active:
        return None
    body = layers.Dense(width, name="first")(ends.embed())
    for number in range(blocks):
        inner = layers.LayerNormalization(name=f"normalization{number}")(body)
        inner = layers.Dense(2 * width, activation="relu", name=f"hidden{number}")(inner)
        inner = layers.Dropout(dropout, name=f"dropout{number}")(inner)
        inner = layers.Dense(width, name=f"last{number}")(inner)
        body = layers.Add()([body, inner])
    body = layers.Activation("relu")(layers.LayerNormalization(name="normalization")(body))
    return ends.add_heads(body), make_warm_adamw(rate, steps, decay)
