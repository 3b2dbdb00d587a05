"""Networks whose units merge what they read before they apply their kernel.

Sums of sources have their own moments, and dropout drops each copy of a feature alone: neither can
be folded into one weight per feature.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import keras
import tensorflow as tf

from cerebros_spark.training.fused.graph.network import COPIES, GroupConfig
from cerebros_spark.training.fused.graph.padding import PaddedShape
from cerebros_spark.training.fused.graph.wiring import Wiring
from cerebros_spark.training.fused.kernels.base import Backward, Tensors
from cerebros_spark.training.fused.kernels.dropout import DropoutMasks
from cerebros_spark.training.fused.kernels.elementwise import (
    Activation,
    BatchNormalization,
    NoNormalization,
    Normalization,
    fold_moving_statistics,
)
from cerebros_spark.training.fused.kernels.folding import expand_planes
from cerebros_spark.training.fused.kernels.merge_ops import GatherMerge, Merge, SumMerge
from cerebros_spark.training.fused.kernels.merged_units import (
    MergedUnits,
    UnitWeights,
    sum_copies,
)


class _Prepared(NamedTuple):
    wiring: Wiring
    hidden: Merge
    outputs: Merge


class _Weights(NamedTuple):
    hidden: UnitWeights
    outputs: UnitWeights


class MergedNetwork:
    """A ``NetworkKernel`` for ``COPIES`` and ``SUMS``; see there for shapes and dtypes."""

    def __init__(self, config: GroupConfig, shape: PaddedShape) -> None:
        self._config = config
        self._shape = shape
        self._activation = Activation(keras.activations.get(config.activation))
        self._gate = Activation(keras.activations.get(config.gate))
        #: Moments of the rows of all units and outputs.
        self.moments = shape.units * shape.planes[0]
        self.moments += len(shape.outputs) * shape.output_planes[0]

    def prepare(self, wiring: Wiring) -> _Prepared:
        """Return what depends on the wiring only."""
        if self._shape.merge == COPIES:
            return _Prepared(wiring, GatherMerge(wiring.hidden), GatherMerge(wiring.outputs))
        dtype = self._config.dtype
        hidden = SumMerge(wiring.hidden, self._shape.planes[0], dtype)
        return _Prepared(
            wiring, hidden, SumMerge(wiring.outputs, self._shape.output_planes[0], dtype)
        )

    def train_forward(
        self, weights: Tensors, prepared: _Prepared, x: Any, counts: Any, noise: tuple[Any, Any]
    ) -> tuple[Any, Any, Backward]:
        """Run the network in training."""
        normalization: Normalization = NoNormalization()
        if self._config.normalization is not None:
            normalization = BatchNormalization(counts, self._config.normalization[1])
        dropout = None
        if self._config.dropout:
            dropout = DropoutMasks(self._config.dropout, *noise, self._config.dtype)
        units = self._units(normalization, dropout)
        hidden, outputs = self._apply_scales(weights)
        count = prepared.wiring.units
        result = units.forward(hidden, prepared.hidden, count, tf.transpose(x))
        raw, results = units.forward_outputs(outputs, prepared.outputs, result.features)
        moments = [tf.reshape(tf.transpose(result.moments, (1, 0, 2)), (2, -1))]
        moments += [each.rows.moments for each in results]

        def backward(gradient: Any) -> dict[str, Any]:
            *d_outputs, d_features = units.backward_outputs(
                outputs, prepared.outputs, results, gradient
            )
            d_hidden = units.backward(hidden, prepared.hidden, count, result, d_features)
            return {
                **_scales_backward(weights, "", *d_hidden),
                **_scales_backward(weights, "output_", *d_outputs),
            }

        return raw, tf.concat(moments, axis=1), backward

    def fold(self, weights: Tensors, moving: Tensors, prepared: _Prepared) -> _Weights:
        """Return the weights for inference."""
        settled = fold_moving_statistics(weights, moving, self._config.normalization)
        hidden, outputs = self._apply_scales(settled)
        # Without dropout the copies of a feature act as one weight.
        return _Weights(
            sum_copies(hidden, self._shape.planes), sum_copies(outputs, self._shape.output_planes)
        )

    def infer(self, folded: _Weights, prepared: _Prepared, x: Any) -> Any:
        """Return the raw outputs."""
        units, count = self._units(NoNormalization()), prepared.wiring.units
        result = units.forward(folded.hidden, prepared.hidden, count, tf.transpose(x))
        return units.forward_outputs(folded.outputs, prepared.outputs, result.features)[0]

    def update_moving(
        self, moving: Tensors, wiring: Wiring, added: Any, left: Any
    ) -> dict[str, Any]:
        """Return the moving statistics after some steps."""
        shape, after = self._shape, {}
        hidden_rows = shape.units * shape.planes[0]
        for prefix, moments, planes in (
            ("", added[:, :hidden_rows], shape.planes),
            ("output_", added[:, hidden_rows:], shape.output_planes),
        ):
            for name, values in zip(("mean", "variance"), tf.unstack(moments), strict=True):
                by_unit = expand_planes(tf.reshape(values, (-1, planes[0])), planes)
                key = f"{prefix}moving_{name}"
                after[key] = moving[key] * left + tf.reshape(by_unit, [-1])
        return after

    def _units(
        self, normalization: Normalization, dropout: DropoutMasks | None = None
    ) -> MergedUnits:
        return MergedUnits(self._shape, self._activation, self._gate, normalization, dropout)

    def _apply_scales(self, weights: Tensors) -> _Weights:
        outputs = len(self._shape.outputs)
        return _Weights(
            _apply_scales(weights, "", self._shape.units),
            _apply_scales(weights, "output_", outputs),
        )


def _apply_scales(weights: Tensors, prefix: str, units: int) -> UnitWeights:
    """Return the weights by unit, with scales in the kernel and shifts in the bias."""
    names = ("kernel", "gamma", "beta", "bias")
    kernel, gamma, beta, bias = (weights[prefix + name] for name in names)
    neurons, slots = kernel.shape

    def by_unit(values: Any) -> Any:
        return tf.transpose(tf.reshape(values, (neurons, units, slots // units)), (1, 0, 2))

    scaled = by_unit(kernel * gamma)
    shifts = tf.reduce_sum(by_unit(kernel * beta), axis=2)
    return UnitWeights(scaled, tf.transpose(scaled, (0, 2, 1)), bias + shifts)


def _scales_backward(weights: Tensors, prefix: str, d_kernel: Any, d_bias: Any) -> dict[str, Any]:
    """Return the gradients of kernel, gamma, beta and bias, in their shapes.

    Args:
        weights: The trained weights.
        prefix: ``""`` or ``"output_"``.
        d_kernel: Gradient of the scaled kernel, ``(units, n, slots per unit)``.
        d_bias: Gradient of the shifted bias, ``(units, n)``.
    """
    units, neurons, slots = d_kernel.shape
    kernel, gamma, beta = (weights[prefix + name] for name in ("kernel", "gamma", "beta"))
    d_scaled = tf.reshape(tf.transpose(d_kernel, (1, 0, 2)), (neurons, units * slots))
    d_shifts = tf.repeat(tf.transpose(d_bias), slots, axis=1)
    return {
        f"{prefix}kernel": d_scaled * gamma + d_shifts * beta,
        f"{prefix}gamma": tf.reduce_sum(d_scaled * kernel, axis=0),
        f"{prefix}beta": tf.reduce_sum(d_shifts * kernel, axis=0),
        f"{prefix}bias": d_bias,
    }
