"""The outputs of a network, and the gradients of its weights."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import keras
import tensorflow as tf

from cerebros_spark.training.fused.graph.network import Recipe
from cerebros_spark.training.fused.graph.padding import Shape
from cerebros_spark.training.fused.graph.wiring import Wiring
from cerebros_spark.training.fused.kernels.base import Tensors, WeightsBack
from cerebros_spark.training.fused.kernels.elementwise import (
    Elementwise,
    Normalized,
    Plain,
    See,
    settled,
)
from cerebros_spark.training.fused.kernels.folded_units import Units
from cerebros_spark.training.fused.kernels.folding import (
    Copies,
    Folding,
    Reading,
    Tables,
    expanded,
)


@dataclass(frozen=True)
class Wired:
    """What follows from the wiring: once for all steps."""

    wiring: Wiring
    hidden: Folding
    outputs: Folding
    tables: Tables


class Networks:
    """Networks whose units weigh a feature by the sum of its copies.

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
        self.moments = shape.features

    def wired(self, wiring: Wiring) -> Wired:
        """Makes ready what does not change from step to step."""
        shape = self._shape
        hidden = Folding(wiring.hidden, shape.planes, shape.grid, shape)
        outputs = Folding(wiring.outputs, shape.output_planes, shape.output_grid, shape)
        return Wired(wiring, hidden, outputs, Tables.of(hidden, outputs, shape))

    def trained(
        self, weights: Tensors, wired: Wired, x: Any, counts: Any, noise: tuple[Any, Any]
    ) -> tuple[Any, Any, WeightsBack]:
        """The raw outputs in training, the moments of the batch, and the way back."""
        see: See = Plain()
        if self._recipe.normalization is not None:
            see = Normalized(counts, self._recipe.normalization[1])
        units = self._units(wired, see)
        reading = _reading(weights, wired)
        passed = units.through(reading, tf.transpose(x))
        raw = tf.matmul(reading.outputs(), passed.seen.values)

        def back(gradient: Any) -> dict[str, Any]:
            # All products of all features with all neurons: what nobody reads is not used, but one
            # large product is faster than many small ones.
            d_all = units.back(reading, passed, tf.reshape(gradient, raw.shape))
            products = tf.matmul(passed.seen.values, d_all)
            hidden = wired.hidden.back(_copies(weights, ""), products)
            outputs = wired.outputs.back(_copies(weights, "output_"), products)
            return {
                **hidden._asdict(),
                **{f"output_{name}": each for name, each in outputs._asdict().items()},
            }

        return self._by_output(raw), passed.seen.moments, back

    def folded(self, weights: Tensors, moving: Tensors, wired: Wired) -> Reading:
        """The weights for inference: normalized by the moving statistics."""
        return _reading(settled(weights, moving, self._recipe.normalization), wired)

    def inferred(self, reading: Reading, wired: Wired, x: Any) -> Any:
        """The raw outputs in inference, of weights that are folded."""
        passed = self._units(wired, Plain()).through(reading, tf.transpose(x))
        return self._by_output(tf.matmul(reading.outputs(), passed.seen.values))

    def moved(self, moving: Tensors, wiring: Wiring, added: Any, kept: Any) -> dict[str, Any]:
        """The moving statistics after some steps."""
        told = {}
        banks = (
            ("", wiring.hidden, self._shape.planes),
            ("output_", wiring.outputs, self._shape.output_planes),
        )
        for prefix, wires, planes in banks:
            for name, values in zip(("mean", "variance"), tf.unstack(added), strict=True):
                of_rows = tf.gather(values, wires.feature_of)
                key = f"{prefix}moving_{name}"
                told[key] = moving[key] * kept + expanded(of_rows, planes)
        return told

    def _units(self, wired: Wired, see: See) -> Units:
        return Units(self._shape, self._activation, self._gate, see, wired.wiring.units)

    def _by_output(self, raw: Any) -> Any:
        """From ``(width of all, batch)`` to ``(outputs, width, batch)``."""
        return tf.reshape(raw, (len(self._shape.outputs), -1, raw.shape[1]))


def _reading(weights: Tensors, wired: Wired) -> Reading:
    hidden = wired.hidden.flat(_copies(weights, ""))
    outputs = wired.outputs.flat(_copies(weights, "output_"))
    return Reading(wired.tables, tf.concat([hidden, outputs], axis=0))


def _copies(weights: Tensors, prefix: str) -> Copies:
    return Copies(*(weights[prefix + name] for name in Copies._fields))
