"""Training and inference of networks whose units merge their sources before applying the kernel.

A sum of sources has its own mean and variance, and dropout drops each copy of a feature separately.
In both cases, the copies' weights cannot be folded into one weight per feature.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import tensorflow as tf

from cerebros_spark.training.fused.graph.network import COPIES, GroupConfig
from cerebros_spark.training.fused.graph.padding import Grid, PaddedShape
from cerebros_spark.training.fused.graph.wiring import Wiring
from cerebros_spark.training.fused.kernels.dropout import DropoutMasks
from cerebros_spark.training.fused.kernels.elementwise import (
    BatchNormalization,
    NoNormalization,
    Normalization,
    Tensors,
    fold_moving_statistics,
)
from cerebros_spark.training.fused.kernels.folding import expand_planes
from cerebros_spark.training.fused.kernels.merge_ops import GatherMerge, Merge, SumMerge
from cerebros_spark.training.fused.kernels.merged_units import MergedUnits, UnitWeights, sum_copies


class _Prepared(NamedTuple):
    hidden: Merge
    outputs: Merge
    units: Any  # () int32: number of hidden units


class MergedNetwork:
    """Forward and backward passes of ``COPIES`` networks (dropout) and ``SUMS`` networks (Add).

    Arguments, shapes and dtypes are those of :class:`~.folded_network.FoldedNetwork`.
    """

    def __init__(self, config: GroupConfig, shape: PaddedShape) -> None:
        self._config = config
        self._shape = shape
        #: Number of means, and of variances: one for each row of each hidden or output unit.
        self.moments = sum(grid.units * grid.planes[0] for grid in shape.grids)

    def prepare(self, wiring: Wiring) -> _Prepared:
        """Build the merge operations from the wiring, once for all steps of a call."""
        if self._shape.merge == COPIES:
            return _Prepared(GatherMerge(wiring.hidden), GatherMerge(wiring.outputs), wiring.units)
        rows, output_rows = (grid.planes[0] for grid in self._shape.grids)
        hidden = SumMerge(wiring.hidden, rows, self._config.dtype)
        outputs = SumMerge(wiring.outputs, output_rows, self._config.dtype)
        return _Prepared(hidden, outputs, wiring.units)

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
        config, count = self._config, prepared.units
        normalization: Normalization = NoNormalization()
        if config.normalization is not None:
            normalization = BatchNormalization(counts, config.normalization[1])
        dropout = DropoutMasks(config.dropout, *noise, config.dtype) if config.dropout else None
        units = MergedUnits(config, self._shape, normalization, dropout)
        hidden, outputs = self._apply_scales(weights)
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

    def fold(self, weights: Tensors, moving: Tensors, prepared: _Prepared) -> list[UnitWeights]:
        """Return the hidden units' and the output units' weights for inference.

        Batch normalization is folded into the weights, and the weights of each row's copies are
        added up. ``weights`` and ``moving`` have the names and shapes of ``elementwise.Tensors``.
        """
        folded = fold_moving_statistics(weights, moving, self._config.normalization)
        # Nothing is dropped in inference, so the copies of a feature act as one weight.
        return [
            sum_copies(each, grid.planes)
            for each, grid in zip(self._apply_scales(folded), self._shape.grids, strict=True)
        ]

    def infer(self, folded: list[UnitWeights], prepared: _Prepared, x: Any) -> Any:
        """Compute the raw outputs ``(outputs, width, batch)`` of the data rows in inference.

        ``folded`` is the result of :meth:`fold`, and ``x`` is ``(batch, inputs)``.
        """
        hidden, outputs = folded
        units = MergedUnits(self._config, self._shape, NoNormalization())
        result = units.forward(hidden, prepared.hidden, prepared.units, tf.transpose(x))
        return units.forward_outputs(outputs, prepared.outputs, result.features)[0]

    def update_moving(
        self, moving: Tensors, wiring: Wiring, added: Any, left: Any
    ) -> dict[str, Any]:
        """Return the moving statistics after the steps of a call, each ``(slots,)``.

        ``moving`` holds the statistics before the steps, by name. ``added (2, moments)`` is the
        decayed sum of all steps' means and variances, and ``left ()`` is the factor by which the
        steps reduce the previous statistics. ``wiring`` is not used.
        """
        after, (hidden, outputs) = {}, self._shape.grids
        hidden_rows = hidden.units * hidden.planes[0]
        for grid, moments in ((hidden, added[:, :hidden_rows]), (outputs, added[:, hidden_rows:])):
            for name, values in zip(("mean", "variance"), tf.unstack(moments), strict=True):
                by_unit = expand_planes(tf.reshape(values, (-1, grid.planes[0])), grid.planes)
                key = f"{grid.prefix}moving_{name}"
                after[key] = moving[key] * left + tf.reshape(by_unit, [-1])
        return after

    def _apply_scales(self, weights: Tensors) -> list[UnitWeights]:
        return [_apply_scales(weights, grid) for grid in self._shape.grids]


def _apply_scales(weights: Tensors, grid: Grid) -> UnitWeights:
    """Return each unit's weights, with scales folded into the kernel and shifts into the bias."""
    names = ("kernel", "gamma", "beta", "bias")
    kernel, gamma, beta, bias = (weights[grid.prefix + name] for name in names)

    def by_unit(values: Any) -> Any:
        split = tf.reshape(values, (grid.neurons, grid.units, grid.slots // grid.units))
        return tf.transpose(split, (1, 0, 2))

    scaled = by_unit(kernel * gamma)
    shifts = tf.reduce_sum(by_unit(kernel * beta), axis=2)
    return UnitWeights(scaled, tf.transpose(scaled, (0, 2, 1)), bias + shifts)


def _scales_backward(weights: Tensors, prefix: str, d_kernel: Any, d_bias: Any) -> dict[str, Any]:
    """Return the gradients with respect to kernel, gamma, beta and bias, by name.

    ``d_kernel (units, n, slots per unit)`` and ``d_bias (units, n)`` are the gradients with respect
    to the scaled kernel and the shifted bias.
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
