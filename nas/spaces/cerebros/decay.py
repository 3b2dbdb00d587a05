"""Decay and gate functions of Cerebros, under their original names."""

from __future__ import annotations

import math
import numbers
from typing import Any


def zero_7_exp_decay(distance: float) -> float:
    """Return 0.7 ** ``distance``, the decay of the number of edges from more distant levels.

    Args:
        distance: Number of levels between reader and source, or of positions on the same level.
    """
    return float(0.7**distance)


def zero_95_exp_decay(distance: float) -> float:
    """Return 0.95 ** ``distance``, the decay of the probability of a lateral edge.

    Args:
        distance: Number of levels between reader and source, or of positions on the same level.
    """
    return float(0.95**distance)


def simple_sigmoid(x: Any) -> Any:
    """Return the logistic function 1 / (1 + exp(-x)) of ``x``, an activation for gated edges.

    Args:
        x: A number, or a tensor of any shape.

    Returns:
        A float in [0, 1], or a tensor with the shape of ``x``.
    """
    if not isinstance(x, numbers.Real):
        from keras import activations

        return activations.sigmoid(x)
    value = float(x)
    power = math.exp(-abs(value))  # cannot overflow
    return 1 / (1 + power) if value >= 0 else power / (1 + power)


def to_base(decay: Any) -> Any:
    """Return the base of a decay function of this module; return any other decay unchanged.

    Unlike a function, a base can always be serialized. A
    :class:`~nas.spaces.cerebros.space.CerebrosSpace` computes its powers by repeated
    multiplication, so that they are equal bit for bit on every machine.
    """
    bases = {zero_7_exp_decay: 0.7, zero_95_exp_decay: 0.95}
    return bases.get(decay, decay) if callable(decay) else decay
