"""Perceptrons with embedded numbers, like the ensemble members of TabPack (arXiv 2607.05380)."""

from __future__ import annotations

from typing import Any

from keras import layers

from nas.spaces.tabular.embeddings import NumberEmbedding
from nas.spaces.tabular.ends import NetworkEnds
from nas.spaces.tabular.training import make_warm_adamw


def build_perceptron(hp: Any, ends: NetworkEnds, steps: int, active: bool) -> Any:
    """Build a perceptron with embedded numbers.

    ``ends`` contains the network's inputs and outputs, and ``steps`` is the trial's number of
    training steps. Return the output tensors and the optimizer. If ``active`` is False, only
    declare the hyperparameters and return None.
    """
    blocks = hp.Int("blocks", 1, 4, default=2)
    width = hp.Choice("width", [128, 256, 384], default=256)
    dropout = hp.Choice("dropout", [0.0, 0.1, 0.3, 0.5], default=0.1)
    embedding = NumberEmbedding(
        ends.frequencies,
        scale=hp.Float("embedding_scale", 0.01, 10.0, sampling="log", default=0.1),
        size=hp.Choice("embedding_size", [8, 16], default=8),
    )
    rate = hp.Float("learning_rate", 1e-4, 5e-3, sampling="log", default=2e-3)
    decay = hp.Float("weight_decay", 1e-3, 1.0, sampling="log", default=1e-2)
    if not active:
        return None
    body = ends.embed(embedding)
    for number in range(blocks):
        body = layers.Dense(width, activation="relu", name=f"hidden{number}")(body)
        if dropout:
            body = layers.Dropout(dropout, name=f"dropout{number}")(body)
    return ends.add_heads(body), make_warm_adamw(rate, steps, decay)
