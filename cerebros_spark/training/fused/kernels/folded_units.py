"""The hidden units of a network, one after the other and back.

They are steps of a loop, as many as the network has: what is compiled is one unit, and a network
pays for no unit that it doesn't have. A unit may read all units before it, whatever their level.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import tensorflow as tf

from cerebros_spark.training.fused.graph.padding import Shape
from cerebros_spark.training.fused.kernels.elementwise import Elementwise, See, Seen
from cerebros_spark.training.fused.kernels.folding import Reading


class Passed(NamedTuple):
    """What going through the units has left.

    Attributes:
        seen: All features as they are seen, those of the inputs first: ``(features, batch)``.
        slopes: Of what each unit tells, before it is normalized, by what it made of all it read:
            ``(units, wide, batch)``.
    """

    seen: Seen
    slopes: Any


class Units:
    """The hidden units.

    Args:
        shape: The shape of the network.
        activation: The units' activation.
        gate: What gated readers see of it.
        see: What readers make of all that they read.
        many: How many units there are, a scalar.
    """

    def __init__(
        self, shape: Shape, activation: Elementwise, gate: Elementwise, see: See, many: Any
    ) -> None:
        self._shape = shape
        self._activation = activation
        self._gate = gate
        self._see = see
        self._many = many

    def through(self, reading: Reading, inputs: Any) -> Passed:
        """Goes through the units.

        Args:
            reading: What they weigh.
            inputs: The inputs as they come, of shape ``(inputs, batch)``.
        """
        shape, (_, batch), dtype = self._shape, inputs.shape, inputs.dtype
        first = self._see(inputs)
        one = tf.ones((1, batch), dtype)
        before = shape.before * shape.wide
        values = tf.pad(tf.concat([first.values, one], 0), [[0, before - shape.inputs - 1], [0, 0]])
        moments = tf.pad(first.moments, [[0, 0], [0, before - shape.inputs]])
        features = _array(values, shape.wide, shape.units)
        of_features = _array(tf.transpose(moments), shape.wide, shape.units)
        slopes = _zeros(shape.units, (shape.wide, batch), dtype)

        def body(unit: Any, *arrays: tf.TensorArray) -> Any:
            read = tf.reshape(arrays[0].stack(), (shape.features, batch))
            told, slope = self._told(tf.matmul(reading.weights(unit), read))
            seen = self._see(told)
            parts = (seen.values, tf.transpose(seen.moments))
            written = (
                array.write(shape.before + unit, part)
                for array, part in zip(arrays[:2], parts, strict=True)
            )
            return unit + 1, *written, arrays[2].write(unit, slope)

        _, features, of_features, slopes = tf.while_loop(
            lambda unit, *_: unit < self._many,
            body,
            [tf.constant(0), features, of_features, slopes],
            maximum_iterations=shape.units,
        )
        seen = tf.reshape(features.stack(), (shape.features, batch))
        moments = tf.transpose(tf.reshape(of_features.stack(), (shape.features, 2)))
        return Passed(Seen(seen, moments), slopes.stack())

    def back(self, reading: Reading, passed: Passed, gradient: Any) -> Any:
        """Goes back.

        Args:
            reading: What the units weigh.
            passed: What the way through has left.
            gradient: Of what the outputs made of all they read, ``(width of all, batch)``.

        Returns:
            The gradients of what units, and behind them outputs, made of all they read:
            ``(batch, neurons of all)``.
        """
        shape, (_, batch), dtype = self._shape, gradient.shape, gradient.dtype
        neurons = shape.neurons
        filled = tf.pad(gradient, [[0, -gradient.shape[0] % neurons], [0, 0]])
        none = tf.zeros((shape.units * neurons, batch), dtype)
        found = _array(tf.concat([none, filled], axis=0), neurons, 0)
        turned = _zeros(shape.units, (batch, neurons), dtype)

        def body(left: Any, found: tf.TensorArray, turned: tf.TensorArray) -> Any:
            unit = left - 1
            readers = tf.reshape(found.stack(), (-1, batch))
            d_seen = tf.matmul(reading.readers(unit), readers)
            here = [(shape.before + unit) * shape.wide, 0]
            seen = Seen(
                tf.slice(passed.seen.values, here, (shape.wide, batch)),
                tf.slice(passed.seen.moments, here[::-1], (2, shape.wide)),
            )
            own = self._see.back(seen, d_seen) * passed.slopes[unit]
            if shape.gated:
                own = own[:neurons] + own[neurons:]
            return unit, found.write(unit, own), turned.write(unit, tf.transpose(own))

        _, _, turned = tf.while_loop(
            lambda left, *_: left > 0,
            body,
            [self._many, found, turned],
            maximum_iterations=shape.units,
        )
        by_row = tf.reshape(tf.transpose(turned.stack(), (1, 0, 2)), (batch, -1))
        return tf.concat([by_row, tf.transpose(gradient)], axis=1)

    def _told(self, own: Any) -> tuple[Any, Any]:
        """What a unit tells, as it is and gated, and how that rises with what it made."""
        told, slope = self._activation(own)
        if not self._shape.gated:
            return told, slope
        # All of it twice, and one half chosen: to put two things side by side is slower.
        twice, slopes = (tf.broadcast_to(each, (2, *own.shape)) for each in (told, slope))
        gated, rising = self._gate(twice)
        opened = tf.constant([False, True])[:, None, None]
        told = tf.where(opened, gated, twice)
        slope = tf.where(opened, slopes * rising, slopes)
        return tuple(tf.reshape(each, (self._shape.wide, -1)) for each in (told, slope))


def _array(values: Any, rows: int, more: int) -> tf.TensorArray:
    """Values in pieces of so many rows, and more pieces of zeros behind them."""
    pieces = tf.reshape(values, (-1, rows, values.shape[1]))
    pieces = tf.pad(pieces, [[0, more], [0, 0], [0, 0]])
    size, *shape = pieces.shape
    return tf.TensorArray(values.dtype, size=size, element_shape=shape).unstack(pieces)


def _zeros(many: int, size: tuple[int, ...], dtype: Any) -> tf.TensorArray:
    """Pieces that all are there: nothing is read that was never written."""
    array = tf.TensorArray(dtype, size=many, element_shape=size)
    return array.unstack(tf.zeros((many, *size), dtype))
