"""Folding of a feature's copies into one weight, and the gradients of the copies' weights.

A unit may read a feature several times, in *copies*. Each copy has its own weights, and its own
scale and shift in the batch normalization. All copies have the same normalized values, because a
feature has one mean and one variance per batch. So the copies' scaled weights add up to one weight,
and their shifts to one bias. See docs/fused_training.md.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import tensorflow as tf

from cerebros_spark.training.fused.graph.padding import Grid, PaddedShape
from cerebros_spark.training.fused.graph.wiring import FoldedWires


class CopyWeights(NamedTuple):
    """Weights of all slots in a grid before folding, or the gradients with respect to them."""

    kernel: Any  # (n, slots)
    gamma: Any  # (slots,)
    beta: Any  # (slots,)
    bias: Any  # (units, n)


class Folding:
    """Folding of one network's weights in one grid: its hidden units or its output units."""

    def __init__(self, wires: FoldedWires, grid: Grid, shape: PaddedShape) -> None:
        self._planes = grid.planes
        self._constant_one = shape.inputs  # index of the constant feature 1
        self._first_neuron = grid.first_neuron
        self._units = tf.one_hot(wires.unit_of, -(-grid.units // 8) * 8)
        rows, neurons = grid.planes[0], grid.neurons
        neuron = tf.range(neurons)
        self._bias_index = wires.unit_of * neurons + neuron[:, None]
        # Index of each product of a feature and a neuron; products of one feature are contiguous.
        self._product_index = (
            wires.feature_of * shape.total_neurons + grid.first_neuron + self._bias_index
        )
        weight = neuron[:, None] * rows + wires.row_of[:, None]
        biases = rows * neurons + tf.reshape(tf.range(neurons * grid.units), (neurons, -1))
        zero = rows * neurons + grid.units * neurons
        indices = tf.where(wires.row_of[:, None] == rows, zero, weight)
        is_one = tf.range(shape.features) == self._constant_one
        #: Index into the result of :meth:`fold` for each neuron's weight of each feature:
        #: ``(units, n, features) int32``.
        self.indices = tf.where(is_one, tf.transpose(biases)[:, :, None], indices)
        #: Length of the result of :meth:`fold`.
        self.size = zero + 1

    def fold(self, copies: CopyWeights) -> Any:
        """Fold weights into a vector ``(size,)``: the rows' weights, the biases, and a zero."""
        factors = tf.stack([copies.gamma, copies.beta])[:, None]
        scaled, shifted = tf.unstack(_sum_planes(copies.kernel * factors, self._planes))
        # A product adds up the rows of each unit faster than a scatter, and twice as fast if its
        # width is a multiple of 8. Do not transpose it: XLA would transpose its factors instead.
        by_unit = tf.matmul(shifted, tf.cast(self._units, shifted.dtype))
        biases = tf.transpose(copies.bias) + by_unit[:, : copies.bias.shape[0]]
        parts = (tf.reshape(each, [-1]) for each in (scaled, biases))
        return tf.concat([*parts, tf.zeros([1], scaled.dtype)], axis=0)

    def backward(self, copies: CopyWeights, products: Any) -> CopyWeights:
        """Return the gradients with respect to the copies' weights.

        ``products (features, total neurons)`` is the matrix product, over the batch, of all
        features and the gradients with respect to all weighted sums.
        """
        units, neurons = copies.bias.shape
        first = self._first_neuron
        d_bias = products[self._constant_one, first : first + units * neurons]
        d_weight = tf.gather(tf.reshape(products, [-1]), self._product_index)
        both = tf.stack([d_weight, tf.gather(d_bias, self._bias_index)])
        # Slots without a copy have scales and weights of 0, so their gradients are 0, too.
        by_slot = expand_planes(both, self._planes)
        factors = tf.stack([copies.gamma, copies.beta])[:, None]
        d_kernel = tf.reduce_sum(by_slot * factors, axis=0)
        d_gamma, d_beta = tf.unstack(tf.reduce_sum(by_slot * copies.kernel, axis=1))
        return CopyWeights(d_kernel, d_gamma, d_beta, tf.reshape(d_bias, copies.bias.shape))


@dataclass(frozen=True)
class WeightIndices:
    """Indices of the folded weights, in the orders that the forward and backward passes need.

    Gathering a matrix in transposed order is several times faster than multiplying by a transposed
    matrix. ``n`` is the number of neurons per hidden unit of the padded shape. ``neurons`` is the
    total number of neurons, padded to a multiple of ``n``. All indices are ``int32``.
    """

    units: Any  # (units, n, features): weights of all features in each hidden unit
    outputs: Any  # (outputs * width, features): weights of all features in the outputs
    readers: Any  # (units, unit features, neurons): weights of a unit's features in all neurons

    @classmethod
    def build(cls, hidden: Folding, outputs: Folding, shape: PaddedShape) -> WeightIndices:
        """Build the indices into the folded weights: hidden units first, then output units."""
        of_outputs = tf.reshape(outputs.indices + hidden.size, (-1, shape.features))
        of_all = tf.concat([tf.reshape(hidden.indices, (-1, shape.features)), of_outputs], axis=0)
        padding = [[0, -of_outputs.shape[0] % shape.neurons], [0, 0]]
        padded = tf.pad(of_all, padding, constant_values=hidden.size - 1)
        of_units = padded[:, shape.input_pieces * shape.unit_features :]
        by_unit = tf.reshape(of_units, (-1, shape.units, shape.unit_features))
        return cls(hidden.indices, of_outputs, tf.transpose(by_unit, (1, 2, 0)))


@dataclass(frozen=True)
class FoldedWeights:
    """Folded weights of a network, and the indices that arrange them in matrices."""

    indices: WeightIndices
    flat: Any  # (size,): results of Folding.fold for the hidden units, then for the outputs

    def of_unit(self, unit: Any) -> Any:
        """Return a hidden unit's weights for all features, ``(n, features)``."""
        return tf.gather(self.flat, self.indices.units[unit])

    def of_readers(self, unit: Any) -> Any:
        """Return all neurons' weights for a unit's features, ``(unit features, neurons)``."""
        return tf.gather(self.flat, self.indices.readers[unit])

    def of_outputs(self) -> Any:
        """Return the outputs' weights for all features, ``(outputs * width, features)``."""
        return tf.gather(self.flat, self.indices.outputs)


def expand_planes(rows: Any, planes: Sequence[int]) -> Any:
    """Repeat each row's value, ``(..., rows)``, for all of the row's slots, ``(..., slots)``.

    ``planes`` holds the number of slots in each plane.
    """
    return tf.concat([rows[..., :many] for many in planes], axis=-1)


def _sum_planes(slots: Any, planes: Sequence[int]) -> Any:
    """Sum ``slots (..., slots)`` over the planes, shortest plane first; return ``(..., rows)``."""
    *before, total = tf.split(slots, planes, axis=-1)
    for plane in reversed(before):
        many = total.shape[-1]
        total = tf.concat([plane[..., :many] + total, plane[..., many:]], axis=-1)
    return total
