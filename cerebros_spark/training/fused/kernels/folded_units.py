"""Forward and backward passes of a folded network's hidden units.

In a folded network, the weights of all copies of a feature in a unit are added up to one weight,
see :mod:`.folding`. A loop runs the hidden units one by one, so only one unit is compiled, and
padding units are never run. A unit can read all units before it, on any level.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import keras
import tensorflow as tf

from cerebros_spark.training.fused.graph.network import GroupConfig
from cerebros_spark.training.fused.graph.padding import PaddedShape
from cerebros_spark.training.fused.kernels.elementwise import Activation, Normalization, Normalized
from cerebros_spark.training.fused.kernels.folding import FoldedWeights


class ForwardResult(NamedTuple):
    """Values that the forward pass of the hidden units saves for the backward pass.

    Attributes:
        features: Normalized features, ``(features, batch)``: inputs first, then hidden units.
        slopes: Derivatives of the hidden units' features, before normalization, with respect to
            their weighted sums, ``(units, unit features, batch)``.
    """

    features: Normalized
    slopes: Any


class FoldedUnits:
    """Forward and backward passes of the hidden units of any network of a group."""

    def __init__(self, config: GroupConfig, shape: PaddedShape) -> None:
        self._shape = shape
        self._activation = Activation(keras.activations.get(config.activation))
        self._gate = Activation(keras.activations.get(config.gate))

    def forward(
        self, weights: FoldedWeights, units: Any, normalization: Normalization, inputs: Any
    ) -> ForwardResult:
        """Run the forward pass of the hidden units.

        Args:
            weights: Folded weights of the network.
            units: Number of hidden units without padding, ``() int32``.
            normalization: Normalization of the features.
            inputs: Input elements of the data rows, ``(inputs, batch)``.
        """
        shape, (_, batch), dtype = self._shape, inputs.shape, inputs.dtype
        first = normalization(inputs)
        one = tf.ones((1, batch), dtype)
        before = shape.input_pieces * shape.unit_features
        values = tf.pad(tf.concat([first.values, one], 0), [[0, before - shape.inputs - 1], [0, 0]])
        moments = tf.pad(first.moments, [[0, 0], [0, before - shape.inputs]])
        features = _to_array(values, shape.unit_features, shape.units)
        moments_by_feature = _to_array(tf.transpose(moments), shape.unit_features, shape.units)
        slopes = _make_zeros(shape.units, (shape.unit_features, batch), dtype)

        def body(unit: Any, *arrays: tf.TensorArray) -> Any:
            read = tf.reshape(arrays[0].stack(), (shape.features, batch))
            activated, slope = self._activate(tf.matmul(weights.of_unit(unit), read))
            normalized = normalization(activated)
            parts = (normalized.values, tf.transpose(normalized.moments))
            written = (
                array.write(shape.input_pieces + unit, part)
                for array, part in zip(arrays[:2], parts, strict=True)
            )
            return unit + 1, *written, arrays[2].write(unit, slope)

        _, features, moments_by_feature, slopes = tf.while_loop(
            lambda unit, *_: unit < units,
            body,
            [tf.constant(0), features, moments_by_feature, slopes],
            maximum_iterations=shape.units,
        )
        all_values = tf.reshape(features.stack(), (shape.features, batch))
        all_moments = tf.transpose(tf.reshape(moments_by_feature.stack(), (shape.features, 2)))
        return ForwardResult(Normalized(all_values, all_moments), slopes.stack())

    def backward(
        self,
        weights: FoldedWeights,
        units: Any,
        normalization: Normalization,
        result: ForwardResult,
        gradient: Any,
    ) -> Any:
        """Return the gradients with respect to all neurons' weighted sums.

        Args:
            weights: Folded weights of the network.
            units: Number of hidden units without padding, ``() int32``.
            normalization: Normalization that :meth:`forward` used.
            result: Result of :meth:`forward`.
            gradient: Gradient with respect to the raw outputs, ``(outputs * width, batch)``.

        Returns:
            Gradients ``(batch, total neurons)``, with the hidden units' neurons first.
        """
        shape, (_, batch), dtype = self._shape, gradient.shape, gradient.dtype
        neurons = shape.neurons
        padded = tf.pad(gradient, [[0, -gradient.shape[0] % neurons], [0, 0]])
        none = tf.zeros((shape.units * neurons, batch), dtype)
        gradients = _to_array(tf.concat([none, padded], axis=0), neurons, 0)
        transposed = _make_zeros(shape.units, (batch, neurons), dtype)

        def body(left: Any, gradients: tf.TensorArray, transposed: tf.TensorArray) -> Any:
            unit = left - 1
            of_readers = tf.reshape(gradients.stack(), (-1, batch))
            d_features = tf.matmul(weights.of_readers(unit), of_readers)
            here = [(shape.input_pieces + unit) * shape.unit_features, 0]
            features = Normalized(
                tf.slice(result.features.values, here, (shape.unit_features, batch)),
                tf.slice(result.features.moments, here[::-1], (2, shape.unit_features)),
            )
            d_sums = normalization.backward(features, d_features) * result.slopes[unit]
            if shape.gated:
                d_sums = d_sums[:neurons] + d_sums[neurons:]
            return unit, gradients.write(unit, d_sums), transposed.write(unit, tf.transpose(d_sums))

        _, _, transposed = tf.while_loop(
            lambda left, *_: left > 0,
            body,
            [units, gradients, transposed],
            maximum_iterations=shape.units,
        )
        by_row = tf.reshape(tf.transpose(transposed.stack(), (1, 0, 2)), (batch, -1))
        return tf.concat([by_row, tf.transpose(gradient)], axis=1)

    def _activate(self, sums: Any) -> tuple[Any, Any]:
        """Return the features of weighted sums ``(n, batch)``, and their derivatives.

        Both are ``(unit features, batch)``.
        """
        activated, slope = self._activation(sums)
        if not self._shape.gated:
            return activated, slope
        # Apply the gate to both halves and select: a concatenation is slower.
        twice, slopes = (tf.broadcast_to(each, (2, *sums.shape)) for each in (activated, slope))
        gated, gate_slopes = self._gate(twice)
        is_gated = tf.constant([False, True])[:, None, None]
        activated = tf.where(is_gated, gated, twice)
        slope = tf.where(is_gated, slopes * gate_slopes, slopes)
        both = (activated, slope)
        return tuple(tf.reshape(each, (self._shape.unit_features, -1)) for each in both)


def _to_array(values: Any, rows: int, more: int) -> tf.TensorArray:
    """Split values ``(pieces * rows, columns)`` into pieces, and append ``more`` zero pieces."""
    pieces = tf.reshape(values, (-1, rows, values.shape[1]))
    pieces = tf.pad(pieces, [[0, more], [0, 0], [0, 0]])
    size, *shape = pieces.shape
    return tf.TensorArray(values.dtype, size=size, element_shape=shape).unstack(pieces)


def _make_zeros(size: int, shape: tuple[int, ...], dtype: Any) -> tf.TensorArray:
    """Return a tensor array of ``size`` zero tensors, readable before they are written."""
    array = tf.TensorArray(dtype, size=size, element_shape=shape)
    return array.unstack(tf.zeros((size, *shape), dtype))
