"""Forward and backward passes of a merged network's units.

A unit merges features into rows, which here are the unit's inputs, not rows of data. It normalizes
the rows and copies them to slots. Dropout sets some slots to 0, and the kernel is applied to the
slots. A loop runs the hidden units one by one.
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
    """Weights of a grid's units, with scales folded into the kernel and shifts into the bias.

    ``slots`` is the number of slots of one unit. For inference, :func:`sum_copies` replaces slots
    with rows.
    """

    kernel: Any  # (units, n, slots)
    transposed: Any  # (units, slots, n): the transposed kernel
    bias: Any  # (units, n)


class ForwardResult(NamedTuple):
    """Values that the forward pass of the hidden units saves for the backward pass.

    Attributes:
        features: Features, ``(features, batch)``: inputs first, then hidden units.
        rows: Normalized rows (merged inputs) of each hidden unit, ``(units, rows, batch)``.
        moments: Means and variances of these rows, ``(units, 2, rows)``.
        slopes: Derivatives of the hidden units' features with respect to their weighted sums,
            ``(units, unit features, batch)``.
    """

    features: Any
    rows: Any
    moments: Any
    slopes: Any


class OutputResult(NamedTuple):
    """Values that the forward pass of one output unit saves for the backward pass."""

    rows: Normalized  # (rows, batch)
    slots: Any  # (slots, batch), after dropout
    mask: Any  # (slots, batch); None if there is no dropout


class MergedUnits:
    """Forward and backward passes of one network's units in one step.

    Args:
        config: Configuration of the network's group.
        shape: Padded shape of the group.
        normalization: Normalization of the rows.
        dropout: Dropout masks of the step; None in inference, or if the network has no dropout.
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
        """Run the forward pass of the hidden units.

        Args:
            weights: Weights of the hidden units.
            merge: Merge operation of the hidden units.
            units: Number of hidden units without padding, ``() int32``.
            inputs: Input elements of the data rows, ``(inputs, batch)``.
        """
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
        """Return the gradients with respect to the hidden units' kernels and biases.

        Args:
            weights: Weights of the hidden units.
            merge: Merge operation of the hidden units.
            units: Number of hidden units without padding, ``() int32``.
            result: Result of :meth:`forward`.
            gradient: Contribution of the output units to the gradient with respect to the
                features, ``(features, batch)``.

        Returns:
            Gradients ``(units, n, slots)`` for the kernels and ``(units, n)`` for the biases.
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
        """Run the forward pass of the output units on ``features (features, batch)``.

        Returns:
            The raw outputs ``(outputs, width, batch)``, and one :class:`OutputResult` per output.
        """
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
        """Return the gradients with respect to the output units' weights and all features.

        ``gradient (outputs, width, batch)`` is the gradient with respect to the raw outputs.

        Returns:
            Gradients ``(outputs, width, slots)`` for the kernels, ``(outputs, width)`` for the
            biases and ``(features, batch)`` for the features.
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
        """Return the features of weighted sums ``(n, batch)``, and their derivatives.

        Both are ``(unit features, batch)``.
        """
        activated, slope = self._activation(sums)
        if not self._shape.gated:
            return activated, slope
        gated, gate_slope = self._gate(activated)
        return tf.concat([activated, gated], 0), tf.concat([slope, slope * gate_slope], 0)

    def _to_slots(self, rows: Any, planes: Sequence[int], unit: Any) -> tuple[Any, Any]:
        """Copy ``rows (rows, batch)`` to a unit's slots; return slots after dropout, and the mask.

        Both are ``(slots, batch)``. If there is no dropout, return the rows and None: either
        :func:`sum_copies` has summed the copies' weights, or each row has a single copy.
        """
        if self._dropout is None:
            return rows, None
        slots = tf.concat([rows[:many] for many in planes], axis=0)
        mask = self._dropout.mask(unit, *slots.shape)
        return slots * mask, mask


def sum_copies(weights: UnitWeights, planes: Sequence[int]) -> UnitWeights:
    """Add up the weights of each row's copies; return weights with rows instead of slots.

    ``planes`` holds the number of slots in each plane.
    """
    transposed = _sum_planes(weights.transposed, planes)
    return UnitWeights(tf.transpose(transposed, (0, 2, 1)), transposed, weights.bias)


def _weights_backward(d_sums: Any, slots: Any) -> tuple[Any, Any]:
    """Return the gradients with respect to a kernel ``(n, slots)`` and a bias ``(n,)``.

    ``d_sums (n, batch)`` is the gradient with respect to the weighted sums, and ``slots`` is
    ``(slots, batch)``.
    """
    return tf.matmul(d_sums, tf.transpose(slots)), tf.reduce_sum(d_sums, axis=1)


def _rows_backward(transposed: Any, d_sums: Any, mask: Any, planes: Sequence[int]) -> Any:
    """Return the gradient with respect to the rows, ``(rows, batch)``.

    ``transposed`` is the kernel ``(slots, n)``, ``d_sums (n, batch)`` the gradient with respect to
    the weighted sums, and ``mask (slots, batch)`` the dropout mask, or None if nothing is dropped.
    """
    d_slots = tf.matmul(transposed, d_sums)
    if mask is not None:
        d_slots *= mask
    return _sum_planes(d_slots, planes)


def _sum_planes(slots: Any, planes: Sequence[int]) -> Any:
    """Sum ``slots (..., slots, n)`` over the planes; return ``(..., rows, n)``."""
    *before, total = tf.split(slots, planes, axis=-2)
    for plane in reversed(before):
        many = total.shape[-2]
        total = tf.concat([plane[..., :many, :] + total, plane[..., many:, :]], axis=-2)
    return total


def _to_array(pieces: Any) -> tf.TensorArray:
    """Return ``pieces (size, ...)`` as a tensor array of ``size`` elements."""
    size, *shape = pieces.shape
    return tf.TensorArray(pieces.dtype, size=size, element_shape=shape).unstack(pieces)
