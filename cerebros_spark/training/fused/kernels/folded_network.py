"""Training and inference of folded networks.

In a folded network, the weights of all copies of a feature in a unit are added up to one weight,
see :mod:`.folding`.
"""

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

    If a unit reads a feature several times, the weights of these copies add up to one weight.

    All floating-point tensors have the group's dtype. ``elementwise.Tensors`` documents the names
    and shapes of the weights and moving statistics.
    """

    def __init__(self, config: GroupConfig, shape: PaddedShape) -> None:
        self._config = config
        self._shape = shape
        self._units = FoldedUnits(config, shape)
        #: Number of features whose means and variances :meth:`train_forward` returns.
        self.moments = shape.features

    def prepare(self, wiring: Wiring) -> _Prepared:
        """Compute the indices that depend only on the wiring, once for all steps of a call."""
        hidden_grid, output_grid = self._shape.grids
        hidden = Folding(wiring.hidden, hidden_grid, self._shape)
        outputs = Folding(wiring.outputs, output_grid, self._shape)
        indices = WeightIndices.build(hidden, outputs, self._shape)
        return _Prepared(hidden, outputs, indices, wiring.units)

    def train_forward(
        self, weights: Tensors, prepared: _Prepared, x: Any, counts: Any, noise: tuple[Any, Any]
    ) -> tuple[Any, Any, Any]:
        """Run the forward pass of a training step.

        Args:
            weights: Trained weights, including scales and shifts.
            prepared: Result of :meth:`prepare`.
            x: Input elements of the data rows, ``(batch, inputs)``.
            counts: 1 for each data row and 0 for padding, ``(batch,)``.
            noise: Dropout seed ``() uint32`` and step index ``() int32``; unused if the network has
                no dropout.

        Returns:
            The raw outputs ``(outputs, width, batch)``, the features' means and variances
            ``(2, moments)``, and the backward pass. The backward pass is a function that takes the
            gradient with respect to the raw outputs, and returns a dict with the gradient with
            respect to each weight.
        """
        normalization: Normalization = NoNormalization()
        if self._config.normalization is not None:
            normalization = BatchNormalization(counts, self._config.normalization[1])
        folded, units = _fold(weights, prepared), prepared.units
        result = self._units.forward(folded, units, normalization, tf.transpose(x))
        raw = tf.matmul(folded.of_outputs(), result.features.values)

        def backward(gradient: Any) -> dict[str, Any]:
            # Multiply all features by all neurons: one large product is faster than many small
            # ones of the connected features and neurons.
            gradient = tf.reshape(gradient, raw.shape)
            d_sums = self._units.backward(folded, units, normalization, result, gradient)
            products = tf.matmul(result.features.values, d_sums)
            hidden = prepared.hidden.backward(_get_copies(weights, ""), products)
            outputs = prepared.outputs.backward(_get_copies(weights, "output_"), products)
            named = {f"output_{name}": each for name, each in outputs._asdict().items()}
            return {**hidden._asdict(), **named}

        return self._split_outputs(raw), result.features.moments, backward

    def fold(self, weights: Tensors, moving: Tensors, prepared: _Prepared) -> FoldedWeights:
        """Return the folded weights for inference, which include the batch normalization.

        ``weights`` and ``moving`` have the names and shapes of ``elementwise.Tensors``.
        """
        return _fold(fold_moving_statistics(weights, moving, self._config.normalization), prepared)

    def infer(self, folded: FoldedWeights, prepared: _Prepared, x: Any) -> Any:
        """Compute the raw outputs ``(outputs, width, batch)`` of the data rows in inference.

        Args:
            folded: Result of :meth:`fold`.
            prepared: Result of :meth:`prepare`.
            x: Input elements of the data rows, ``(batch, inputs)``.
        """
        inputs = tf.transpose(x)
        result = self._units.forward(folded, prepared.units, NoNormalization(), inputs)
        return self._split_outputs(tf.matmul(folded.of_outputs(), result.features.values))

    def update_moving(
        self, moving: Tensors, wiring: Wiring, added: Any, left: Any
    ) -> dict[str, Any]:
        """Return the moving statistics after the steps of a call, each ``(slots,)``.

        Args:
            moving: Moving statistics before the steps, by name.
            wiring: Decoded wiring of the network.
            added: Weighted sum of all steps' means and variances, ``(2, moments)``. The weights
                decay, so the last step has the largest.
            left: Factor by which the steps reduce the previous statistics, ``()``.
        """
        after = {}
        for grid, wires in zip(self._shape.grids, (wiring.hidden, wiring.outputs), strict=True):
            for name, values in zip(("mean", "variance"), tf.unstack(added), strict=True):
                by_row = tf.gather(values, wires.feature_of)
                key = f"{grid.prefix}moving_{name}"
                after[key] = moving[key] * left + expand_planes(by_row, grid.planes)
        return after

    def _split_outputs(self, raw: Any) -> Any:
        """Reshape raw outputs ``(outputs * width, batch)`` to ``(outputs, width, batch)``."""
        return tf.reshape(raw, (len(self._shape.outputs), -1, raw.shape[1]))


def _fold(weights: Tensors, prepared: _Prepared) -> FoldedWeights:
    hidden = prepared.hidden.fold(_get_copies(weights, ""))
    outputs = prepared.outputs.fold(_get_copies(weights, "output_"))
    return FoldedWeights(prepared.indices, tf.concat([hidden, outputs], axis=0))


def _get_copies(weights: Tensors, prefix: str) -> CopyWeights:
    return CopyWeights(*(weights[prefix + name] for name in CopyWeights._fields))
