"""Networks whose units apply one weight to all copies of a feature."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import keras
import tensorflow as tf

from cerebros_spark.training.fused.graph.network import GroupConfig
from cerebros_spark.training.fused.graph.padding import PaddedShape
from cerebros_spark.training.fused.graph.wiring import Wiring
from cerebros_spark.training.fused.kernels.base import Backward, Tensors
from cerebros_spark.training.fused.kernels.elementwise import (
    Activation,
    BatchNormalization,
    NoNormalization,
    Normalization,
    fold_moving_statistics,
)
from cerebros_spark.training.fused.kernels.folded_units import FoldedUnits
from cerebros_spark.training.fused.kernels.folding import (
    CopyWeights,
    FoldedWeights,
    Folding,
    WeightIndices,
    expand_planes,
)


@dataclass(frozen=True)
class _Prepared:
    wiring: Wiring
    hidden: Folding
    outputs: Folding
    indices: WeightIndices


class FoldedNetwork:
    """A ``NetworkKernel`` for ``FOLDED`` networks; see there for shapes and dtypes."""

    def __init__(self, config: GroupConfig, shape: PaddedShape) -> None:
        self._config = config
        self._shape = shape
        self._activation = Activation(keras.activations.get(config.activation))
        self._gate = Activation(keras.activations.get(config.gate))
        #: Moments of all features.
        self.moments = shape.features

    def prepare(self, wiring: Wiring) -> _Prepared:
        """Return what depends on the wiring only."""
        shape = self._shape
        hidden = Folding(wiring.hidden, shape.planes, shape.grid, shape)
        outputs = Folding(wiring.outputs, shape.output_planes, shape.output_grid, shape)
        return _Prepared(wiring, hidden, outputs, WeightIndices.build(hidden, outputs, shape))

    def train_forward(
        self, weights: Tensors, prepared: _Prepared, x: Any, counts: Any, noise: tuple[Any, Any]
    ) -> tuple[Any, Any, Backward]:
        """Run the network in training."""
        normalization: Normalization = NoNormalization()
        if self._config.normalization is not None:
            normalization = BatchNormalization(counts, self._config.normalization[1])
        units = self._units(prepared, normalization)
        folded = _fold(weights, prepared)
        result = units.forward(folded, tf.transpose(x))
        raw = tf.matmul(folded.of_outputs(), result.features.values)

        def backward(gradient: Any) -> dict[str, Any]:
            # Products of all features with all neurons: one large product is faster than many
            # small ones of what is connected.
            d_sums = units.backward(folded, result, tf.reshape(gradient, raw.shape))
            products = tf.matmul(result.features.values, d_sums)
            hidden = prepared.hidden.backward(_copy_weights(weights, ""), products)
            outputs = prepared.outputs.backward(_copy_weights(weights, "output_"), products)
            return {
                **hidden._asdict(),
                **{f"output_{name}": each for name, each in outputs._asdict().items()},
            }

        return self._by_output(raw), result.features.moments, backward

    def fold(self, weights: Tensors, moving: Tensors, prepared: _Prepared) -> FoldedWeights:
        """Return the weights for inference."""
        return _fold(fold_moving_statistics(weights, moving, self._config.normalization), prepared)

    def infer(self, folded: FoldedWeights, prepared: _Prepared, x: Any) -> Any:
        """Return the raw outputs."""
        result = self._units(prepared, NoNormalization()).forward(folded, tf.transpose(x))
        return self._by_output(tf.matmul(folded.of_outputs(), result.features.values))

    def update_moving(
        self, moving: Tensors, wiring: Wiring, added: Any, left: Any
    ) -> dict[str, Any]:
        """Return the moving statistics after some steps."""
        after = {}
        for prefix, wires, planes in (
            ("", wiring.hidden, self._shape.planes),
            ("output_", wiring.outputs, self._shape.output_planes),
        ):
            for name, values in zip(("mean", "variance"), tf.unstack(added), strict=True):
                by_row = tf.gather(values, wires.feature_of)
                key = f"{prefix}moving_{name}"
                after[key] = moving[key] * left + expand_planes(by_row, planes)
        return after

    def _units(self, prepared: _Prepared, normalization: Normalization) -> FoldedUnits:
        units = prepared.wiring.units
        return FoldedUnits(self._shape, self._activation, self._gate, normalization, units)

    def _by_output(self, raw: Any) -> Any:
        """Reshape ``(output neurons, batch)`` to ``(outputs, width, batch)``."""
        return tf.reshape(raw, (len(self._shape.outputs), -1, raw.shape[1]))


def _fold(weights: Tensors, prepared: _Prepared) -> FoldedWeights:
    hidden = prepared.hidden.fold(_copy_weights(weights, ""))
    outputs = prepared.outputs.fold(_copy_weights(weights, "output_"))
    return FoldedWeights(prepared.indices, tf.concat([hidden, outputs], axis=0))


def _copy_weights(weights: Tensors, prefix: str) -> CopyWeights:
    return CopyWeights(*(weights[prefix + name] for name in CopyWeights._fields))
