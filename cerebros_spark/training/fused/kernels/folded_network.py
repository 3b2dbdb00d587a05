"""Networks whose units apply one weight to all copies of a feature."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import tensorflow as tf

from cerebros_spark.training.fused.graph.network import GroupConfig
from cerebros_spark.training.fused.graph.padding import PaddedShape
from cerebros_spark.training.fused.graph.wiring import Wiring
from cerebros_spark.training.fused.kernels.elementwise import (
    BatchNormalization,
    NoNormalization,
    Normalization,
    Tensors,
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
    hidden: Folding
    outputs: Folding
    indices: WeightIndices
    units: Any  # () int32: number of hidden units


class FoldedNetwork:
    """Forward and backward passes of ``FOLDED`` networks.

    All floating-point tensors have the group's dtype.
    """

    def __init__(self, config: GroupConfig, shape: PaddedShape) -> None:
        self._config = config
        self._shape = shape
        self._units = FoldedUnits(config, shape)
        #: Number of means, and of variances, that a step returns.
        self.moments = shape.features

    def prepare(self, wiring: Wiring) -> _Prepared:
        """Return what depends on the wiring only, once for all steps."""
        hidden_grid, output_grid = self._shape.grids
        hidden = Folding(wiring.hidden, hidden_grid, self._shape)
        outputs = Folding(wiring.outputs, output_grid, self._shape)
        indices = WeightIndices.build(hidden, outputs, self._shape)
        return _Prepared(hidden, outputs, indices, wiring.units)

    def train_forward(
        self, weights: Tensors, prepared: _Prepared, x: Any, counts: Any, noise: tuple[Any, Any]
    ) -> tuple[Any, Any, Any]:
        """Run a network in training.

        Args:
            weights: The trained weights.
            prepared: What :meth:`prepare` returned.
            x: Rows ``(batch, inputs)``.
            counts: 1 for a row, 0 for padding, ``(batch,)``.
            noise: Seed ``() uint32`` and step ``() int32``, from which dropout draws.

        Returns:
            The raw outputs, before their activations, ``(outputs, width, batch)``; means and
            variances of the batch ``(2, moments)``; and a function from the gradient of the raw
            outputs to those of the weights by name.
        """
        normalization: Normalization = NoNormalization()
        if self._config.normalization is not None:
            normalization = BatchNormalization(counts, self._config.normalization[1])
        folded, units = _fold(weights, prepared), prepared.units
        result = self._units.forward(folded, units, normalization, tf.transpose(x))
        raw = tf.matmul(folded.of_outputs(), result.features.values)

        def backward(gradient: Any) -> dict[str, Any]:
            # Products of all features with all neurons: one large product is faster than many
            # small ones of what is connected.
            gradient = tf.reshape(gradient, raw.shape)
            d_sums = self._units.backward(folded, units, normalization, result, gradient)
            products = tf.matmul(result.features.values, d_sums)
            hidden = prepared.hidden.backward(_get_copies(weights, ""), products)
            outputs = prepared.outputs.backward(_get_copies(weights, "output_"), products)
            named = {f"output_{name}": each for name, each in outputs._asdict().items()}
            return {**hidden._asdict(), **named}

        return self._split_outputs(raw), result.features.moments, backward

    def fold(self, weights: Tensors, moving: Tensors, prepared: _Prepared) -> FoldedWeights:
        """Return the weights for inference, normalized by the moving statistics."""
        return _fold(fold_moving_statistics(weights, moving, self._config.normalization), prepared)

    def infer(self, folded: FoldedWeights, prepared: _Prepared, x: Any) -> Any:
        """Return the raw outputs ``(outputs, width, batch)`` of rows ``(batch, inputs)``."""
        inputs = tf.transpose(x)
        result = self._units.forward(folded, prepared.units, NoNormalization(), inputs)
        return self._split_outputs(tf.matmul(folded.of_outputs(), result.features.values))

    def update_moving(
        self, moving: Tensors, wiring: Wiring, added: Any, left: Any
    ) -> dict[str, Any]:
        """Return the moving statistics after some steps, ``(slots,)`` each.

        Args:
            moving: The statistics before.
            wiring: The wiring.
            added: Sum of the steps' decayed moments, ``(2, moments)``.
            left: Share of a statistic that is left after the steps, ``()``.
        """
        after = {}
        for grid, wires in zip(self._shape.grids, (wiring.hidden, wiring.outputs), strict=True):
            for name, values in zip(("mean", "variance"), tf.unstack(added), strict=True):
                by_row = tf.gather(values, wires.feature_of)
                key = f"{grid.prefix}moving_{name}"
                after[key] = moving[key] * left + expand_planes(by_row, grid.planes)
        return after

    def _split_outputs(self, raw: Any) -> Any:
        """Reshape ``(output neurons, batch)`` to ``(outputs, width, batch)``."""
        return tf.reshape(raw, (len(self._shape.outputs), -1, raw.shape[1]))


def _fold(weights: Tensors, prepared: _Prepared) -> FoldedWeights:
    hidden = prepared.hidden.fold(_get_copies(weights, ""))
    outputs = prepared.outputs.fold(_get_copies(weights, "output_"))
    return FoldedWeights(prepared.indices, tf.concat([hidden, outputs], axis=0))


def _get_copies(weights: Tensors, prefix: str) -> CopyWeights:
    return CopyWeights(*(weights[prefix + name] for name in CopyWeights._fields))
