"""The units of a merged network, forward and backward: hidden units in a loop, outputs one by one.

A unit merges features to rows, normalizes them and copies them to slots, some of which dropout
sets to 0. The kernel is applied to the slots.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import keras
import tensorflow as tf

from cerebros_spark.training.fused.graph.network import GroupConfig
from cerebros_spark.training.fused.graph.padding import PaddedShape
from cerebros_spark.training.fused.kernels.dropout import DropoutMasks
from cerebros_spark.training.fused.kernels.elementwise import Activation, Normalization, Normalized
from cerebros_spark.training.fused.kernels.merge_ops import Merge


class UnitWeights(NamedTuple):
    """Weights of units, with n neurons each, that include scales and shifts."""

    kernel: Any  # (units, n, slots)
    transposed: Any  # (units, slots, n)
    bias: Any  # (units, n)


class ForwardResult(NamedTuple):
    """What the forward pass of the hidden units leaves for the backward pass."""

    features: Any  # (features, batch)
    rows: Any  # (units, rows, batch): normalized
    moments: Any  # (units, 2, rows): their means and variances
    slopes: Any  # (units, unit features, batch): derivatives of features by weighted sums


class OutputResult(NamedTuple):
    """What the forward pass of an output unit leaves for the backward pass."""

    rows: Normalized  # (rows, batch)
    slots: Any  # (slots, batch)
    mask: Any  # (slots, batch): dropout mask; None without dropout


class MergedUnits:
    """The units of a network in one step.

    Args:
        config: What the networks share.
        shape: The padded shape.
        normalization: The normalization of rows.
        dropout: Dropout masks of the step; None without dropout.
    """

    def __init__(
        self,
        config: GroupConfig,
        shape: PaddedShape,
        normalization: Normalization,
        dropout: DropoutMasks | None = None,
    ) -> None:
        self._shape = shape
        self._activation = Activation(keras.activations.get(config.activation))
        self._gate = Activation(keras.activations.get(config.gate))
        self._normalization = normalization
        self._dropout = dropout

    def forward(self, weights: UnitWeights, merge: Merge, units: Any, inputs: Any) -> ForwardResult:
        """Run a number of hidden ``units () int32`` on ``inputs (inputs, batch)``."""
        shape, (_, batch), dtype = self._shape, inputs.shape, inputs.dtype
        one = tf.ones((1, batch), dtype)
        before = shape.input_pieces * shape.unit_features
        values = tf.pad(tf.concat([inputs, one], 0), [[0, before - shape.inputs - 1], [0, 0]])
        pieces = tf.reshape(values, (shape.input_pieces, shape.unit_features, batch))
        pieces = tf.pad(pieces, [[0, shape.units], [0, 0], [0, 0]])
        arrays = [
            _to_array(pieces),
            _to_array(tf.zeros((shape.units, shape.planes[0], batch), dtype)),
            _to_array(tf.zeros((shape.units, 2, shape.planes[0]), dtype)),
            _to_array(tf.zeros((shape.units, shape.unit_features, batch), dtype)),
        ]

        def body(unit: Any, *arrays: tf.TensorArray) -> Any:
            read = tf.reshape(arrays[0].stack(), (shape.features, batch))
            rows = self._normalization(merge.forward(unit, read))
            slots, _ = self._to_slots(rows.values, shape.planes, unit)
            sums = tf.matmul(weights.kernel[unit], slots) + weights.bias[unit][:, None]
            activated, slope = self._activate(sums)
            return (
                unit + 1,
                arrays[0].write(shape.input_pieces + unit, activated),
                arrays[1].write(unit, rows.values),
                arrays[2].write(unit, rows.moments),
                arrays[3].write(unit, slope),
            )

        _, *arrays = tf.while_loop(
            lambda unit, *_: unit < units,
            body,
            [tf.constant(0), *arrays],
            maximum_iterations=shape.units,
        )
        features, *others = (array.stack() for array in arrays)
        return ForwardResult(tf.reshape(features, (shape.features, batch)), *others)

    def backward(
        self, weights: UnitWeights, merge: Merge, units: Any, result: ForwardResult, gradient: Any
    ) -> tuple[Any, Any]:
        """Return the gradients of kernels ``(units, n, slots)`` and biases ``(units, n)``.

        ``gradient (features, batch)`` is that of all features from the outputs.
        """
        shape, (_, batch), dtype = self._shape, gradient.shape, gradient.dtype
        neurons, planes = shape.neurons, shape.planes
        arrays = [
            _to_array(tf.zeros((shape.units, neurons, sum(planes)), dtype)),
            _to_array(tf.zeros((shape.units, neurons), dtype)),
        ]

        def body(left: Any, d_features: Any, *arrays: tf.TensorArray) -> Any:
            unit = left - 1
            here = [(shape.input_pieces + unit) * shape.unit_features, 0]
            d_sums = tf.slice(d_features, here, (shape.unit_features, batch)) * result.slopes[unit]
            if shape.gated:
                d_sums = d_sums[:neurons] + d_sums[neurons:]
            rows = Normalized(result.rows[unit], result.moments[unit])
            slots, mask = self._to_slots(rows.values, planes, unit)
            d_kernel, d_bias = _weights_backward(d_sums, slots)
            d_rows = _rows_backward(weights.transposed[unit], d_sums, mask, planes)
            d_read = merge.backward(unit, self._normalization.backward(rows, d_rows))
            written = arrays[0].write(unit, d_kernel), arrays[1].write(unit, d_bias)
            return unit, d_features + d_read, *written

        _, _, *arrays = tf.while_loop(
            lambda left, *_: left > 0,
            body,
            [units, gradient, *arrays],
            maximum_iterations=shape.units,
        )
        kernels, biases = (array.stack() for array in arrays)
        return kernels, biases

    def forward_outputs(
        self, weights: UnitWeights, merge: Merge, features: Any
    ) -> tuple[Any, list[OutputResult]]:
        """Return the raw outputs ``(outputs, width, batch)`` of features ``(features, batch)``."""
        raw, results = [], []
        for number in range(len(self._shape.outputs)):
            rows = self._normalization(merge.forward(number, features))
            unit, planes = self._shape.units + number, self._shape.output_planes
            slots, mask = self._to_slots(rows.values, planes, unit)
            raw.append(tf.matmul(weights.kernel[number], slots) + weights.bias[number][:, None])
            results.append(OutputResult(rows, slots, mask))
        return tf.stack(raw), results

    def backward_outputs(
        self, weights: UnitWeights, merge: Merge, results: Sequence[OutputResult], gradient: Any
    ) -> tuple[Any, Any, Any]:
        """Return the gradients of the outputs' kernels and biases, and of all features.

        They are ``(outputs, width, slots)``, ``(outputs, width)`` and ``(features, batch)``, and
        follow from ``gradient (outputs, width, batch)``, that of the raw outputs.
        """
        d_weights, d_features = [], []
        for number, (rows, slots, mask) in enumerate(results):
            d_sums, planes = gradient[number], self._shape.output_planes
            d_weights.append(_weights_backward(d_sums, slots))
            d_rows = _rows_backward(weights.transposed[number], d_sums, mask, planes)
            d_rows = self._normalization.backward(rows, d_rows)
            d_features.append(merge.backward(number, d_rows))
        kernels, biases = (tf.stack(each) for each in zip(*d_weights, strict=True))
        return kernels, biases, tf.add_n(d_features)

    def _activate(self, sums: Any) -> tuple[Any, Any]:
        """Return features and derivatives ``(unit features, batch)`` of weighted ``(n, batch)``."""
        activated, slope = self._activation(sums)
        if not self._shape.gated:
            return activated, slope
        gated, gate_slope = self._gate(activated)
        return tf.concat([activated, gated], 0), tf.concat([slope, slope * gate_slope], 0)

    def _to_slots(self, rows: Any, planes: Sequence[int], unit: Any) -> tuple[Any, Any]:
        """Return the slots of rows ``(rows, batch)``, and their mask, both ``(slots, batch)``.

        Without dropout the rows and None: copies of a row have one weight, see :func:`sum_copies`.
        """
        if self._dropout is None:
            return rows, None
        slots = tf.concat([rows[:many] for many in planes], axis=0)
        mask = self._dropout.mask(unit, *slots.shape)
        return slots * mask, mask


def sum_copies(weights: UnitWeights, planes: Sequence[int]) -> UnitWeights:
    """Return the weights of rows, each the sum over its slots, with rows in place of slots."""
    transposed = _sum_planes(weights.transposed, planes)
    return UnitWeights(tf.transpose(transposed, (0, 2, 1)), transposed, weights.bias)


def _weights_backward(d_sums: Any, slots: Any) -> tuple[Any, Any]:
    """Return the gradients of a kernel ``(n, slots)`` and bias ``(n,)``.

    They are those of weighted sums ``(n, batch)`` of slots ``(slots, batch)``.
    """
    return tf.matmul(d_sums, tf.transpose(slots)), tf.reduce_sum(d_sums, axis=1)


def _rows_backward(transposed: Any, d_sums: Any, mask: Any, planes: Sequence[int]) -> Any:
    """Return the gradient of rows ``(rows, batch)`` from that of weighted sums ``(n, batch)``."""
    d_slots = tf.matmul(transposed, d_sums)
    if mask is not None:
        d_slots *= mask
    return _sum_planes(d_slots, planes)


def _sum_planes(slots: Any, planes: Sequence[int]) -> Any:
    """Sum the slots of each row, ``(..., slots, n)`` to ``(..., rows, n)``."""
    *before, total = tf.split(slots, planes, axis=-2)
    for plane in reversed(before):
        many = total.shape[-2]
        total = tf.concat([plane[..., :many, :] + total, plane[..., many:, :]], axis=-2)
    return total


def _to_array(pieces: Any) -> tf.TensorArray:
    size, *shape = pieces.shape
    return tf.TensorArray(pieces.dtype, size=size, element_shape=shape).unstack(pieces)
