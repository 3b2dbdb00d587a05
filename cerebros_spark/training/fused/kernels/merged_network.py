"""Networks each of whose units puts together what it reads before it weighs it.

Sums of what is equally wide have moments of their own, and dropout leaves out each copy of a
feature by itself: neither can be folded into the weights of features (``forward.py``).
"""

from __future__ import annotations

from typing import Any, NamedTuple

import keras
import tensorflow as tf

from cerebros_spark.training.fused.graph.network import COPIES, Recipe
from cerebros_spark.training.fused.graph.padding import Shape
from cerebros_spark.training.fused.graph.wiring import Wiring
from cerebros_spark.training.fused.kernels.base import Tensors, WeightsBack
from cerebros_spark.training.fused.kernels.dropout import Dropping
from cerebros_spark.training.fused.kernels.elementwise import (
    Elementwise,
    Normalized,
    Plain,
    See,
    settled,
)
from cerebros_spark.training.fused.kernels.folding import expanded
from cerebros_spark.training.fused.kernels.merge_ops import Copied, Merge, Summed
from cerebros_spark.training.fused.kernels.merged_units import MergedUnits, Weights, summed_up


class Merged(NamedTuple):
    """What follows from the wiring: once for all steps."""

    wiring: Wiring
    hidden: Merge
    outputs: Merge


class Folded(NamedTuple):
    """What hidden units and outputs weigh."""

    hidden: Weights
    outputs: Weights


class MergedNetworks:
    """Networks whose units put together what they read before they weigh it.

    Args:
        recipe: What they have in common.
        shape: The shape.
    """

    def __init__(self, recipe: Recipe, shape: Shape) -> None:
        self._recipe = recipe
        self._shape = shape
        self._activation = Elementwise(keras.activations.get(recipe.activation))
        self._gate = Elementwise(keras.activations.get(recipe.gate))
        #: How many moments of each kind a step has.
        self.moments = shape.units * shape.planes[0]
        self.moments += len(shape.outputs) * shape.output_planes[0]

    def wired(self, wiring: Wiring) -> Merged:
        """Makes ready what does not change from step to step."""
        if self._shape.merge == COPIES:
            return Merged(wiring, Copied(wiring.hidden), Copied(wiring.outputs))
        rows = (self._shape.planes[0], self._shape.output_planes[0])
        hidden, outputs = (
            Summed(wires, each, self._recipe.dtype)
            for wires, each in zip((wiring.hidden, wiring.outputs), rows, strict=True)
        )
        return Merged(wiring, hidden, outputs)

    def trained(
        self, weights: Tensors, wired: Merged, x: Any, counts: Any, noise: tuple[Any, Any]
    ) -> tuple[Any, Any, WeightsBack]:
        """The raw outputs in training, the moments of the batch, and the way back."""
        see: See = Plain()
        if self._recipe.normalization is not None:
            see = Normalized(counts, self._recipe.normalization[1])
        drop = None
        if self._recipe.dropout:
            drop = Dropping(self._recipe.dropout, *noise, self._recipe.dtype)
        units = self._units(see, drop)
        hidden, outputs = self._folded(weights)
        many = wired.wiring.units
        passed = units.through(hidden, wired.hidden, many, tf.transpose(x))
        raw, ended = units.ends(outputs, wired.outputs, passed.features)
        moments = [tf.reshape(tf.transpose(passed.moments, (1, 0, 2)), (2, -1))]
        moments += [each.seen.moments for each in ended]

        def back(gradient: Any) -> dict[str, Any]:
            *of_outputs, d_features = units.ends_back(outputs, wired.outputs, ended, gradient)
            of_hidden = units.back(hidden, wired.hidden, many, passed, d_features)
            return {
                **_unfolded(weights, "", *of_hidden),
                **_unfolded(weights, "output_", *of_outputs),
            }

        return raw, tf.concat(moments, axis=1), back

    def folded(self, weights: Tensors, moving: Tensors, wired: Merged) -> Folded:
        """The weights for inference: normalized by the moving statistics."""
        whole = self._folded(settled(weights, moving, self._recipe.normalization))
        # Nothing is left out, so the copies of a feature weigh as one.
        return Folded(
            summed_up(whole.hidden, self._shape.planes),
            summed_up(whole.outputs, self._shape.output_planes),
        )

    def inferred(self, folded: Folded, wired: Merged, x: Any) -> Any:
        """The raw outputs in inference, of weights that are folded."""
        units = self._units(Plain())
        passed = units.through(folded.hidden, wired.hidden, wired.wiring.units, tf.transpose(x))
        return units.ends(folded.outputs, wired.outputs, passed.features)[0]

    def moved(self, moving: Tensors, wiring: Wiring, added: Any, kept: Any) -> dict[str, Any]:
        """The moving statistics after some steps."""
        shape, told = self._shape, {}
        many = shape.units * shape.planes[0]
        banks = (
            ("", added[:, :many], shape.planes),
            ("output_", added[:, many:], shape.output_planes),
        )
        for prefix, moments, planes in banks:
            for name, values in zip(("mean", "variance"), tf.unstack(moments), strict=True):
                of_units = expanded(tf.reshape(values, (-1, planes[0])), planes)
                key = f"{prefix}moving_{name}"
                told[key] = moving[key] * kept + tf.reshape(of_units, [-1])
        return told

    def _units(self, see: See, drop: Dropping | None = None) -> MergedUnits:
        return MergedUnits(self._shape, self._activation, self._gate, see, drop)

    def _folded(self, weights: Tensors) -> Folded:
        outputs = len(self._shape.outputs)
        return Folded(_scaled(weights, "", self._shape.units), _scaled(weights, "output_", outputs))


def _scaled(weights: Tensors, prefix: str, units: int) -> Weights:
    names = ("kernel", "gamma", "beta", "bias")
    kernel, gamma, beta, bias = (weights[prefix + name] for name in names)
    neurons, slots = kernel.shape

    def by_unit(values: Any) -> Any:
        return tf.transpose(tf.reshape(values, (neurons, units, slots // units)), (1, 0, 2))

    scaled = by_unit(kernel * gamma)
    shifts = tf.reduce_sum(by_unit(kernel * beta), axis=2)
    return Weights(scaled, tf.transpose(scaled, (0, 2, 1)), bias + shifts)


def _unfolded(weights: Tensors, prefix: str, d_kernel: Any, d_bias: Any) -> dict[str, Any]:
    """The gradients of kernel, scale, shift and bias, of the scaled kernel's and bias'."""
    units, neurons, slots = d_kernel.shape
    kernel, gamma, beta = (weights[prefix + name] for name in ("kernel", "gamma", "beta"))
    spread = tf.reshape(tf.transpose(d_kernel, (1, 0, 2)), (neurons, units * slots))
    shifts = tf.repeat(tf.transpose(d_bias), slots, axis=1)
    return {
        f"{prefix}kernel": spread * gamma + shifts * beta,
        f"{prefix}gamma": tf.reduce_sum(spread * kernel, axis=0),
        f"{prefix}beta": tf.reduce_sum(shifts * kernel, axis=0),
        f"{prefix}bias": d_bias,
    }
