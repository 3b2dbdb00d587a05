"""From the weights of copies to what a feature weighs in all, and back for the gradients.

A unit merges a feature as often as it was picked, and each copy has a scale and a shift of its
own (those of the batch normalization) and weights of its own. What is normalized is the same for
all copies: a batch has one mean and one variance of a feature. So the copies' weights, scaled, add
up to one weight, and their shifts to one bias. The gradient of each copy comes out of the sum's by
the chain rule, as if it had been merged by itself.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import tensorflow as tf

from cerebros_spark.training.fused.graph.padding import Grid, Shape
from cerebros_spark.training.fused.graph.wiring import Wires


class Copies(NamedTuple):
    """What is trained of all copies.

    Attributes:
        kernel: Weights, of shape ``(n, slots)``.
        gamma: Scales, of shape ``(slots,)``.
        beta: Shifts, likewise.
        bias: Of each unit, of shape ``(units, n)``.
    """

    kernel: Any
    gamma: Any
    beta: Any
    bias: Any


class Folding:
    """Adds up copies; what follows from the wires alone is done once.

    Args:
        wires: How units are wired.
        planes: Slots of each plane.
        grid: The units.
        shape: The shape of the network.
    """

    def __init__(self, wires: Wires, planes: Sequence[int], grid: Grid, shape: Shape) -> None:
        self._planes = tuple(planes)
        self._one = shape.inputs
        self._first = grid.first
        self._units = tf.one_hot(wires.unit_of, -(-grid.units // 8) * 8)
        rows, neurons = planes[0], grid.neurons
        neuron = tf.range(neurons)
        of_unit = wires.unit_of * neurons + neuron[:, None]
        self._bias_of = of_unit
        # A product's number, where those of a feature with all neurons lie side by side.
        self._product_of = wires.feature_of * shape.neurons_of_all + grid.first + of_unit
        weight = neuron[:, None] * rows + wires.row_at[:, None]
        biases = rows * neurons + tf.reshape(tf.range(neurons * grid.units), (neurons, -1))
        none = rows * neurons + grid.units * neurons
        places = tf.where(wires.row_at[:, None] == rows, none, weight)
        is_one = tf.range(shape.features) == self._one
        #: Where what a unit's neuron gives a feature stands in what :meth:`flat` tells:
        #: ``(units, n, features)``.
        self.places = tf.where(is_one, tf.transpose(biases)[:, :, None], places)
        #: Length of that.
        self.size = none + 1

    def flat(self, copies: Copies) -> Any:
        """The weights of all rows, the biases, and a zero."""
        factors = tf.stack([copies.gamma, copies.beta])[:, None]
        scaled, shifted = tf.unstack(_summed(copies.kernel * factors, self._planes))
        # A product adds up what belongs to a unit faster than a scatter, and twice as fast where
        # its width is a multiple of 8. It is not transposed: the compiler would turn its factors.
        of_units = tf.matmul(shifted, tf.cast(self._units, shifted.dtype))
        biases = tf.transpose(copies.bias) + of_units[:, : copies.bias.shape[0]]
        parts = (tf.reshape(each, [-1]) for each in (scaled, biases))
        return tf.concat([*parts, tf.zeros([1], scaled.dtype)], axis=0)

    def back(self, copies: Copies, products: Any) -> Copies:
        """The gradients of copies.

        Args:
            copies: The copies.
            products: Of all features with the gradients of all neurons, whether the one reads the
                other or not.
        """
        units, neurons = copies.bias.shape
        d_bias = products[self._one, self._first : self._first + units * neurons]
        both = tf.stack(
            [
                tf.gather(tf.reshape(products, [-1]), self._product_of),
                tf.gather(d_bias, self._bias_of),
            ]
        )
        # Slots without a copy have scales and weights of 0, and so have their gradients.
        spread = expanded(both, self._planes)
        factors = tf.stack([copies.gamma, copies.beta])[:, None]
        d_kernel = tf.reduce_sum(spread * factors, axis=0)
        d_gamma, d_beta = tf.unstack(tf.reduce_sum(spread * copies.kernel, axis=1))
        return Copies(d_kernel, d_gamma, d_beta, tf.reshape(d_bias, copies.bias.shape))


@dataclass(frozen=True)
class Tables:
    """Where the weights of a network are, as they are read and as gradients come back.

    To multiply by a transposed matrix takes several times as long as to fetch its values in
    another order.

    Attributes:
        units: For each hidden unit what it reads, ``(units, n, features)``.
        outputs: The same for the outputs, side by side: ``(width of all, features)``.
        readers: For each hidden unit by whom its features are read:
            ``(units, wide, neurons of all)``, filled up.
    """

    units: Any
    outputs: Any
    readers: Any

    @classmethod
    def of(cls, hidden: Folding, outputs: Folding, shape: Shape) -> Tables:
        """From the places in the one's weights and, behind them, the other's."""
        behind = tf.reshape(outputs.places + hidden.size, (-1, shape.features))
        all_places = tf.concat([tf.reshape(hidden.places, (-1, shape.features)), behind], axis=0)
        zero = hidden.size - 1
        more = [[0, -behind.shape[0] % shape.neurons], [0, 0]]
        read = tf.pad(all_places, more, constant_values=zero)[:, shape.before * shape.wide :]
        read = tf.reshape(read, (-1, shape.units, shape.wide))
        return cls(hidden.places, behind, tf.transpose(read, (1, 2, 0)))


@dataclass(frozen=True)
class Reading:
    """What all units of a network weigh.

    Attributes:
        tables: Where what is.
        flat: The weights.
    """

    tables: Tables
    flat: Any

    def weights(self, unit: Any) -> Any:
        """What a unit weighs, ``(n, features)``."""
        return tf.gather(self.flat, self.tables.units[unit])

    def readers(self, unit: Any) -> Any:
        """What those who read a unit weigh, ``(wide, neurons of all)``."""
        return tf.gather(self.flat, self.tables.readers[unit])

    def outputs(self) -> Any:
        """What the outputs weigh, ``(width of all, features)``."""
        return tf.gather(self.flat, self.tables.outputs)


def expanded(rows: Any, planes: Sequence[int]) -> Any:
    """Gives each slot what its row has: ``(..., rows)`` to ``(..., slots)``."""
    return tf.concat([rows[..., :many] for many in planes], axis=-1)


def _summed(copies: Any, planes: Sequence[int]) -> Any:
    """Sums over the planes, from the shortest to the longest, each of which begins like it."""
    total = None
    for plane in reversed(tf.split(copies, planes, axis=-1)):
        if total is None:
            total = plane
        else:
            many = total.shape[-1]
            total = tf.concat([plane[..., :many] + total, plane[..., many:]], axis=-1)
    return total
