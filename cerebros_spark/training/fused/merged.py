"""Networks each of whose units puts together what it reads before it weighs it.

Sums of what is equally wide have moments of their own, and dropout leaves out each copy of a
feature by itself: neither can be folded into the weights of features (``forward.py``).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import keras
import tensorflow as tf

from cerebros_spark.training.fused.dropping import Dropping
from cerebros_spark.training.fused.folding import expanded
from cerebros_spark.training.fused.merging import Copied, Merge, Summed
from cerebros_spark.training.fused.reading import COPIES, Recipe
from cerebros_spark.training.fused.shapes import Shape
from cerebros_spark.training.fused.steps import Elementwise, Normalized, Plain, See, Seen
from cerebros_spark.training.fused.wiring import Wiring

#: Tensors by name.
Tensors = Mapping[str, Any]


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


class Merged(NamedTuple):
    """What follows from the wiring: once for all steps."""

    wiring: Wiring
    hidden: Merge
    outputs: Merge


class Folded(NamedTuple):
    """What hidden units and outputs weigh."""

    hidden: Weights
    outputs: Weights


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


class MergedNetworks:
    """The networks of one recipe, padded to one shape.

    Args:
        recipe: What they have in common.
        shape: The shape.
    """

    def __init__(self, recipe: Recipe, shape: Shape) -> None:
        self._recipe = recipe
        self._shape = shape
        self._activation = Elementwise(keras.activations.get(recipe.activation))
        self._gate = Elementwise(keras.activations.get(recipe.gate))
        self._wide = max(shape.outputs)
        #: How many moments of each kind a step has.
        self.moments = shape.units * shape.planes[0]
        self.moments += len(shape.outputs) * shape.output_planes[0]

    def wired(self, wiring: Wiring) -> Merged:
        """Makes ready what does not change from step to step."""
        if self._shape.merge == COPIES:
            return Merged(wiring, Copied(wiring.hidden), Copied(wiring.outputs))
        rows = (self._shape.planes[0], self._shape.output_planes[0])
        hidden, outputs = (
            Summed(wires, each, self._recipe.dtype)
            for wires, each in zip((wiring.hidden, wiring.outputs), rows, strict=True)
        )
        return Merged(wiring, hidden, outputs)

    def trained(
        self, weights: Tensors, wired: Merged, x: Any, counts: Any, noise: tuple[Any, Any]
    ) -> tuple[Any, Any, Callable[[Any], dict[str, Any]]]:
        """The raw outputs in training, the moments of the batch, and the way back.

        Takes and gives what :meth:`.forward.Networks.trained` does.
        """
        see: See = Plain()
        if self._recipe.normalization is not None:
            see = Normalized(counts, self._recipe.normalization[1])
        drop = None
        if self._recipe.dropout:
            drop = Dropping(self._recipe.dropout, *noise, self._recipe.dtype)
        folded = self._folded(weights)
        passed = self._through(folded.hidden, wired, tf.transpose(x), see, drop)
        ends = self._ends(folded.outputs, wired, passed.features, see, drop)
        outputs = [seen for seen, _, _ in ends]
        every = [tf.reshape(tf.transpose(passed.moments, (1, 0, 2)), (2, -1))]
        every += [seen.moments for seen in outputs]

        def back(gradient: Any) -> dict[str, Any]:
            found, d_features = [], tf.zeros_like(passed.features)
            for number, (seen, slots, mask) in enumerate(ends):
                own = gradient[number]
                found.append(_weights_back(own, slots))
                turned = folded.outputs.turned[number]
                d_rows = self._rows_back(turned, own, mask, self._shape.output_planes)
                d_features += wired.outputs.features(number, see.back(seen, d_rows))
            kernels, biases = (tf.stack(each) for each in zip(*found, strict=True))
            hidden = self._back(folded.hidden, wired, passed, d_features, see, drop)
            return {
                **self._unfolded(weights, "", *hidden),
                **self._unfolded(weights, "output_", kernels, biases),
            }

        raw = tf.stack([told for told in self._raw(folded.outputs, ends)])
        return raw, tf.concat(every, axis=1), back

    def folded(self, weights: Tensors, moving: Tensors, wired: Merged) -> Folded:
        """The weights for inference: normalized by the moving statistics."""
        scaled = dict(weights)
        if self._recipe.normalization is not None:
            for prefix in ("", "output_"):
                variance = moving[f"{prefix}moving_variance"] + self._recipe.normalization[1]
                scale = weights[f"{prefix}gamma"] * tf.math.rsqrt(variance)
                scaled[f"{prefix}gamma"] = scale
                shift = weights[f"{prefix}beta"] - scale * moving[f"{prefix}moving_mean"]
                scaled[f"{prefix}beta"] = shift
        whole = self._folded(scaled)
        # Nothing is left out, so the copies of a feature weigh as one.
        return Folded(
            _summed_up(whole.hidden, self._shape.planes),
            _summed_up(whole.outputs, self._shape.output_planes),
        )

    def inferred(self, folded: Folded, wired: Merged, x: Any) -> Any:
        """The raw outputs in inference, of weights that are folded."""
        passed = self._through(folded.hidden, wired, tf.transpose(x), Plain(), None)
        ends = self._ends(folded.outputs, wired, passed.features, Plain(), None)
        return tf.stack(self._raw(folded.outputs, ends))

    def moved(self, moving: Tensors, wiring: Wiring, added: Any, kept: Any) -> dict[str, Any]:
        """The moving statistics after some steps, as :meth:`.forward.Networks.moved` has them."""
        shape, told = self._shape, {}
        many = shape.units * shape.planes[0]
        banks = (
            ("", added[:, :many], shape.planes),
            ("output_", added[:, many:], shape.output_planes),
        )
        for prefix, moments, planes in banks:
            for name, values in zip(("mean", "variance"), tf.unstack(moments), strict=True):
                of_units = expanded(tf.reshape(values, (-1, planes[0])), planes)
                key = f"{prefix}moving_{name}"
                told[key] = moving[key] * kept + tf.reshape(of_units, [-1])
        return told

    # Weights -----------------------------------------------------------------------------

    def _folded(self, weights: Tensors) -> Folded:
        outputs = len(self._shape.outputs)
        return Folded(_scaled(weights, "", self._shape.units), _scaled(weights, "output_", outputs))

    def _unfolded(
        self, weights: Tensors, prefix: str, d_kernel: Any, d_bias: Any
    ) -> dict[str, Any]:
        """The gradients of kernel, scale, shift and bias, of the scaled kernel's and bias'."""
        units, neurons, slots = d_kernel.shape
        kernel, gamma, beta = (weights[prefix + name] for name in ("kernel", "gamma", "beta"))
        spread = tf.reshape(tf.transpose(d_kernel, (1, 0, 2)), (neurons, units * slots))
        shifts = tf.repeat(tf.transpose(d_bias), slots, axis=1)
        return {
            f"{prefix}kernel": spread * gamma + shifts * beta,
            f"{prefix}gamma": tf.reduce_sum(spread * kernel, axis=0),
            f"{prefix}beta": tf.reduce_sum(shifts * kernel, axis=0),
            f"{prefix}bias": d_bias,
        }

    # There -------------------------------------------------------------------------------

    def _through(
        self, weights: Weights, wired: Merged, inputs: Any, see: See, drop: Dropping | None
    ) -> Passed:
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
            seen = see(wired.hidden.rows(unit, read))
            slots, _ = _slots(seen.values, shape.planes, unit, drop)
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
            lambda unit, *_: unit < wired.wiring.units,
            body,
            [tf.constant(0), *arrays],
            maximum_iterations=shape.units,
        )
        features, *others = (array.stack() for array in arrays)
        return Passed(tf.reshape(features, (shape.features, batch)), *others)

    def _ends(
        self, weights: Weights, wired: Merged, features: Any, see: See, drop: Dropping | None
    ) -> list[tuple[Seen, Any, Any]]:
        """For each output its rows, its slots, and what was left out of them."""
        told = []
        for number in range(len(self._shape.outputs)):
            seen = see(wired.outputs.rows(number, features))
            unit, planes = self._shape.units + number, self._shape.output_planes
            told.append((seen, *_slots(seen.values, planes, unit, drop)))
        return told

    def _raw(self, weights: Weights, ends: Sequence[tuple[Seen, Any, Any]]) -> list[Any]:
        return [
            tf.matmul(weights.kernel[number], slots) + weights.bias[number][:, None]
            for number, (_, slots, _) in enumerate(ends)
        ]

    def _told(self, own: Any) -> tuple[Any, Any]:
        """What a unit tells, as it is and gated, and how that rises with what it made."""
        told, slope = self._activation(own)
        if not self._shape.gated:
            return told, slope
        gated, rising = self._gate(told)
        return tf.concat([told, gated], 0), tf.concat([slope, slope * rising], 0)

    # And back ----------------------------------------------------------------------------

    def _back(
        self,
        weights: Weights,
        wired: Merged,
        passed: Passed,
        d_features: Any,
        see: See,
        drop: Dropping | None,
    ) -> tuple[Any, Any]:
        """The gradients of the hidden units' scaled kernels and biases."""
        shape, (_, batch), dtype = self._shape, d_features.shape, d_features.dtype
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
            slots, mask = _slots(seen.values, planes, unit, drop)
            d_kernel, d_bias = _weights_back(own, slots)
            d_rows = see.back(seen, self._rows_back(weights.turned[unit], own, mask, planes))
            return (
                unit,
                d_features + wired.hidden.features(unit, d_rows),
                arrays[0].write(unit, d_kernel),
                arrays[1].write(unit, d_bias),
            )

        _, _, *arrays = tf.while_loop(
            lambda left, *_: left > 0,
            body,
            [wired.wiring.units, d_features, *arrays],
            maximum_iterations=shape.units,
        )
        kernels, biases = (array.stack() for array in arrays)
        return kernels, biases

    def _rows_back(self, turned: Any, own: Any, mask: Any, planes: Sequence[int]) -> Any:
        """From the gradient of what a unit made of its slots to that of its rows."""
        d_slots = tf.matmul(turned, own)
        if mask is not None:
            d_slots *= mask
        return _together(d_slots, planes)


def _scaled(weights: Tensors, prefix: str, units: int) -> Weights:
    names = ("kernel", "gamma", "beta", "bias")
    kernel, gamma, beta, bias = (weights[prefix + name] for name in names)
    neurons, slots = kernel.shape

    def by_unit(values: Any) -> Any:
        return tf.transpose(tf.reshape(values, (neurons, units, slots // units)), (1, 0, 2))

    scaled = by_unit(kernel * gamma)
    shifts = tf.reduce_sum(by_unit(kernel * beta), axis=2)
    return Weights(scaled, tf.transpose(scaled, (0, 2, 1)), bias + shifts)


def _weights_back(own: Any, slots: Any) -> tuple[Any, Any]:
    """The gradients of a unit's scaled kernel and bias."""
    return tf.matmul(own, tf.transpose(slots)), tf.reduce_sum(own, axis=1)


def _slots(rows: Any, planes: Sequence[int], unit: Any, drop: Dropping | None) -> tuple[Any, Any]:
    """What is weighed of a unit's rows: ``(rows, batch)`` to ``(slots, batch)``.

    Returns:
        The slots, and what each counts; the rows themselves and None if nothing is left out, as
        the copies of a row are the same then.
    """
    if drop is None:
        return rows, None
    slots = tf.concat([rows[:many] for many in planes], axis=0)
    mask = drop.mask(unit, *slots.shape)
    return slots * mask, mask


def _summed_up(weights: Weights, planes: Sequence[int]) -> Weights:
    """The weights of rows, of those of slots."""
    turned = _together(weights.turned, planes)
    return Weights(tf.transpose(turned, (0, 2, 1)), turned, weights.bias)


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
