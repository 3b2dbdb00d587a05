"""Units that put together what they read before they weigh it, one after the other and back."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import tensorflow as tf

from cerebros_spark.training.fused.graph.padding import Shape
from cerebros_spark.training.fused.kernels.dropout import Dropping
from cerebros_spark.training.fused.kernels.elementwise import Elementwise, See, Seen
from cerebros_spark.training.fused.kernels.merge_ops import Merge


class Weights(NamedTuple):
    """What units weigh, scales and shifts in it.

    Attributes:
        kernel: ``(units, n, slots)``.
        turned: The same turned over, ``(units, slots, n)``.
        bias: ``(units, n)``.
    """

    kernel: Any
    turned: Any
    bias: Any


class Passed(NamedTuple):
    """What going through the hidden units has left.

    Attributes:
        features: All features, ``(features, batch)``.
        rows: For each unit its rows as they are weighed, ``(units, rows, batch)``.
        moments: Their means and variances, ``(units, 2, rows)``.
        slopes: Of what each unit tells by what it made of all it read, ``(units, wide, batch)``.
    """

    features: Any
    rows: Any
    moments: Any
    slopes: Any


class Ended(NamedTuple):
    """What an output's unit has made of what it reads.

    Attributes:
        seen: Its rows as they are weighed.
        slots: What is weighed of them, ``(slots, batch)``.
        mask: What each slot counts; None for 1.
    """

    seen: Seen
    slots: Any
    mask: Any


class MergedUnits:
    """The units of a network.

    Args:
        shape: The shape of the network.
        activation: The hidden units' activation.
        gate: What gated readers see of it.
        see: What is made of the rows before they are weighed.
        drop: What is left out of them; None for nothing.
    """

    def __init__(
        self,
        shape: Shape,
        activation: Elementwise,
        gate: Elementwise,
        see: See,
        drop: Dropping | None = None,
    ) -> None:
        self._shape = shape
        self._activation = activation
        self._gate = gate
        self._see = see
        self._drop = drop

    def through(self, weights: Weights, merge: Merge, many: Any, inputs: Any) -> Passed:
        """Goes through the hidden units.

        Args:
            weights: What they weigh.
            merge: How they put together what they read.
            many: How many there are, a scalar.
            inputs: The inputs as they come, ``(inputs, batch)``.
        """
        shape, (_, batch), dtype = self._shape, inputs.shape, inputs.dtype
        rows = shape.planes[0]
        one = tf.ones((1, batch), dtype)
        before = shape.before * shape.wide
        values = tf.pad(tf.concat([inputs, one], 0), [[0, before - shape.inputs - 1], [0, 0]])
        pieces = tf.reshape(values, (shape.before, shape.wide, batch))
        pieces = tf.pad(pieces, [[0, shape.units], [0, 0], [0, 0]])
        arrays = [
            _array(pieces),
            _array(tf.zeros((shape.units, rows, batch), dtype)),
            _array(tf.zeros((shape.units, 2, rows), dtype)),
            _array(tf.zeros((shape.units, shape.wide, batch), dtype)),
        ]

        def body(unit: Any, *arrays: tf.TensorArray) -> Any:
            read = tf.reshape(arrays[0].stack(), (shape.features, batch))
            seen = self._see(merge.rows(unit, read))
            slots, _ = self._slots(seen.values, shape.planes, unit)
            own = tf.matmul(weights.kernel[unit], slots) + weights.bias[unit][:, None]
            told, slope = self._told(own)
            return (
                unit + 1,
                arrays[0].write(shape.before + unit, told),
                arrays[1].write(unit, seen.values),
                arrays[2].write(unit, seen.moments),
                arrays[3].write(unit, slope),
            )

        _, *arrays = tf.while_loop(
            lambda unit, *_: unit < many,
            body,
            [tf.constant(0), *arrays],
            maximum_iterations=shape.units,
        )
        features, *others = (array.stack() for array in arrays)
        return Passed(tf.reshape(features, (shape.features, batch)), *others)

    def ends(self, weights: Weights, merge: Merge, features: Any) -> tuple[Any, list[Ended]]:
        """What the outputs' units make of all features: ``(outputs, width, batch)``, and how."""
        raw, ended = [], []
        for number in range(len(self._shape.outputs)):
            seen = self._see(merge.rows(number, features))
            unit, planes = self._shape.units + number, self._shape.output_planes
            slots, mask = self._slots(seen.values, planes, unit)
            raw.append(tf.matmul(weights.kernel[number], slots) + weights.bias[number][:, None])
            ended.append(Ended(seen, slots, mask))
        return tf.stack(raw), ended

    def ends_back(
        self, weights: Weights, merge: Merge, ended: Sequence[Ended], gradient: Any
    ) -> tuple[Any, Any, Any]:
        """Goes back from the outputs, with the gradient of what their units made.

        Returns:
            The gradients of their kernels and biases, and of all features.
        """
        found, d_features = [], []
        for number, (seen, slots, mask) in enumerate(ended):
            own, planes = gradient[number], self._shape.output_planes
            found.append(_weights_back(own, slots))
            d_rows = self._see.back(seen, _rows_back(weights.turned[number], own, mask, planes))
            d_features.append(merge.features(number, d_rows))
        kernels, biases = (tf.stack(each) for each in zip(*found, strict=True))
        return kernels, biases, tf.add_n(d_features)

    def back(
        self, weights: Weights, merge: Merge, many: Any, passed: Passed, gradient: Any
    ) -> tuple[Any, Any]:
        """Goes back through the hidden units.

        Args:
            weights: What they weigh.
            merge: How they put together what they read.
            many: How many there are.
            passed: What the way through has left.
            gradient: Of all features, as the outputs read them.

        Returns:
            The gradients of their kernels and biases.
        """
        shape, (_, batch), dtype = self._shape, gradient.shape, gradient.dtype
        neurons, planes = shape.neurons, shape.planes
        arrays = [
            _array(tf.zeros((shape.units, neurons, sum(planes)), dtype)),
            _array(tf.zeros((shape.units, neurons), dtype)),
        ]

        def body(left: Any, d_features: Any, *arrays: tf.TensorArray) -> Any:
            unit = left - 1
            here = [(shape.before + unit) * shape.wide, 0]
            own = tf.slice(d_features, here, (shape.wide, batch)) * passed.slopes[unit]
            if shape.gated:
                own = own[:neurons] + own[neurons:]
            seen = Seen(passed.rows[unit], passed.moments[unit])
            slots, mask = self._slots(seen.values, planes, unit)
            d_kernel, d_bias = _weights_back(own, slots)
            d_rows = self._see.back(seen, _rows_back(weights.turned[unit], own, mask, planes))
            return (
                unit,
                d_features + merge.features(unit, d_rows),
                arrays[0].write(unit, d_kernel),
                arrays[1].write(unit, d_bias),
            )

        _, _, *arrays = tf.while_loop(
            lambda left, *_: left > 0,
            body,
            [many, gradient, *arrays],
            maximum_iterations=shape.units,
        )
        kernels, biases = (array.stack() for array in arrays)
        return kernels, biases

    def _told(self, own: Any) -> tuple[Any, Any]:
        """What a unit tells, as it is and gated, and how that rises with what it made."""
        told, slope = self._activation(own)
        if not self._shape.gated:
            return told, slope
        gated, rising = self._gate(told)
        return tf.concat([told, gated], 0), tf.concat([slope, slope * rising], 0)

    def _slots(self, rows: Any, planes: Sequence[int], unit: Any) -> tuple[Any, Any]:
        """What is weighed of a unit's rows: ``(rows, batch)`` to ``(slots, batch)``.

        Returns:
            The slots, and what each counts; the rows themselves and None if nothing is left out,
            as the copies of a row are the same then.
        """
        if self._drop is None:
            return rows, None
        slots = tf.concat([rows[:many] for many in planes], axis=0)
        mask = self._drop.mask(unit, *slots.shape)
        return slots * mask, mask


def summed_up(weights: Weights, planes: Sequence[int]) -> Weights:
    """The weights of rows, of those of slots."""
    turned = _together(weights.turned, planes)
    return Weights(tf.transpose(turned, (0, 2, 1)), turned, weights.bias)


def _weights_back(own: Any, slots: Any) -> tuple[Any, Any]:
    """The gradients of a unit's scaled kernel and bias."""
    return tf.matmul(own, tf.transpose(slots)), tf.reduce_sum(own, axis=1)


def _rows_back(turned: Any, own: Any, mask: Any, planes: Sequence[int]) -> Any:
    """From the gradient of what a unit made of its slots to that of its rows."""
    d_slots = tf.matmul(turned, own)
    if mask is not None:
        d_slots *= mask
    return _together(d_slots, planes)


def _together(slots: Any, planes: Sequence[int]) -> Any:
    """Adds up the slots of each row: ``(..., slots, n)`` to ``(..., rows, n)``."""
    *before, total = tf.split(slots, planes, axis=-2)
    for plane in reversed(before):
        many = total.shape[-2]
        total = tf.concat([plane[..., :many, :] + total, plane[..., many:, :]], axis=-2)
    return total


def _array(pieces: Any) -> tf.TensorArray:
    size, *shape = pieces.shape
    return tf.TensorArray(pieces.dtype, size=size, element_shape=shape).unstack(pieces)
