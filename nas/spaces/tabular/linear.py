"""Linear and logistic regression, the baseline for the other families."""

from __future__ import annotations

import dataclasses
from typing import Any

from keras import layers, ops

from cerebros_spark.data.table.encode_matrix import CLIP, MOST_RESTORED
from cerebros_spark.data.table.schema import MatrixLayout
from nas.spaces.tabular.ends import NetworkEnds
from nas.spaces.tabular.training import make_warm_adamw

PLAIN, CLIPPED = "plain", "clipped"


def build_linear(hp: Any, ends: NetworkEnds, steps: int, active: bool) -> Any:
    """Build a linear model: one Dense layer per output.

    The hyperparameter ``numbers`` chooses whether numeric inputs are smoothly clipped, or unclipped
    so that the model can extrapolate. ``ends`` contains the network's inputs and outputs, and
    ``steps`` is the trial's number of training steps. Return the output tensors and the optimizer.
    If ``active`` is False, only declare the hyperparameters and return None.
    """
    numbers = hp.Choice("numbers", [PLAIN, CLIPPED], default=PLAIN)
    rate = hp.Float("learning_rate", 3e-3, 0.1, sampling="log", default=0.03)
    decay = hp.Float("weight_decay", 1e-4, 0.3, sampling="log", default=1e-2)
    if not active:
        return None
    if numbers == PLAIN:
        restored = map(_restore_numbers, ends.inputs, ends.fronts)
        ends = dataclasses.replace(ends, inputs=tuple(restored))
    heads = ends.add_heads(ends.embed(), _make_zeros)
    return heads, make_warm_adamw(rate, steps, decay, warm_up=0.0)


def _restore_numbers(matrix: Any, layout: MatrixLayout) -> Any:
    """Undo the smooth clipping, as ``restore_numbers`` of the table encoding does."""
    if not layout.numbers:
        return matrix
    clipped = ops.clip(matrix[:, : layout.numbers], -MOST_RESTORED, MOST_RESTORED)
    ratio = clipped / float(CLIP)
    numbers = clipped / ops.sqrt(1.0 - ratio * ratio)
    if layout.width == layout.numbers:
        return numbers
    return layers.Concatenate()([numbers, matrix[:, layout.numbers :]])


def _make_zeros(body: Any, units: int, name: str) -> Any:
    return layers.Dense(units, kernel_initializer="zeros", name=name)(body)
