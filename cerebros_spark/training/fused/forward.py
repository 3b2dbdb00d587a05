"""The outputs of a group of networks, all at once."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import keras
import tensorflow as tf

from cerebros_spark.training.fused.folding import expanded, folding, placing
from cerebros_spark.training.fused.reading import Recipe
from cerebros_spark.training.fused.shapes import Shape

#: Tensors of a group by name; the first axis is the networks'.
Tensors = Mapping[str, Any]


@dataclass(frozen=True)
class Wiring:
    """How the networks of a group are wired, the networks first.

    Attributes:
        row_at: For each place of the hidden units its row.
        place_of: For each row its place.
        feature_of: For each row the feature whose statistics it has.
        taken: For each slot whether it holds a copy.
        output_row_at: The same for the outputs.
        output_place_of: The same for the outputs.
        output_feature_of: The same for the outputs.
        output_taken: The same for the outputs.
    """

    row_at: Any
    place_of: Any
    feature_of: Any
    taken: Any
    output_row_at: Any
    output_place_of: Any
    output_feature_of: Any
    output_taken: Any


@dataclass(frozen=True)
class Moments:
    """Mean and variance of each feature over a batch, of shape ``(K, features)``.

    The gated ones, where there are any, come behind the others.
    """

    mean: Any
    variance: Any


class Networks:
    """The networks of one recipe, padded to one shape.

    Args:
        recipe: What they have in common.
        shape: The shape.
    """

    def __init__(self, recipe: Recipe, shape: Shape) -> None:
        self._recipe = recipe
        self._shape = shape
        self._activation = keras.activations.get(recipe.activation)
        self._gate = keras.activations.get(recipe.gate)
        self._outputs = [json.loads(output) for output in recipe.outputs]
        self._fold = folding(shape.planes)
        self._output_fold = folding(shape.output_planes)

    def trained(self, weights: Tensors, wiring: Wiring, x: Any, counts: Any) -> tuple[Any, Moments]:
        """The outputs in training, and the moments of the batch.

        Args:
            weights: ``kernel``, ``gamma``, ``beta``, ``bias``, and the same of the outputs.
            wiring: The wiring.
            x: The rows, of shape ``(K, batch, inputs)``.
            counts: 1 for a row that is there, 0 for one that fills up the batch: ``(K, batch)``.

        Returns:
            For each output a tensor ``(K, batch, width)``; the moments.
        """
        if self._recipe.normalization is None:
            none = tf.zeros((x.shape[0], 0), x.dtype)
            return self._through(weights, wiring, x, lambda values: values), Moments(none, none)
        epsilon = self._recipe.normalization[1]
        counted = counts[..., None]
        rows = tf.reduce_sum(counted, axis=1, keepdims=True)
        seen: list[tuple[Any, Any]] = []

        def normalized(values: Any) -> Any:
            mean = tf.reduce_sum(values * counted, axis=1, keepdims=True) / rows
            centred = values - mean
            variance = tf.reduce_sum(centred * centred * counted, axis=1, keepdims=True) / rows
            seen.append((mean[:, 0], variance[:, 0]))
            return centred * tf.math.rsqrt(variance + epsilon)

        outputs = self._through(weights, wiring, x, normalized)
        return outputs, self._moments(seen)

    def inferred(self, weights: Tensors, moving: Tensors, wiring: Wiring, x: Any) -> Any:
        """The outputs in inference: normalized by the moving statistics."""
        if self._recipe.normalization is None:
            return self._through(weights, wiring, x, lambda values: values)
        scaled = dict(weights)
        for prefix in ("", "output_"):
            variance = moving[f"{prefix}moving_variance"] + self._recipe.normalization[1]
            scale = weights[f"{prefix}gamma"] * tf.math.rsqrt(variance)
            scaled[f"{prefix}gamma"] = scale
            shift = weights[f"{prefix}beta"] - scale * moving[f"{prefix}moving_mean"]
            scaled[f"{prefix}beta"] = shift
        return self._through(scaled, wiring, x, lambda values: values)

    def moved(self, moving: Tensors, wiring: Wiring, added: Moments, kept: Any) -> dict[str, Any]:
        """The moving statistics after some steps.

        Args:
            moving: What they were before.
            wiring: The wiring.
            added: What the steps' moments add up to, the earlier ones faded.
            kept: What remains of a statistic after as many steps.
        """
        told = {}
        banks = (
            ("", wiring.feature_of, self._shape.planes),
            ("output_", wiring.output_feature_of, self._shape.output_planes),
        )
        for prefix, feature_of, planes in banks:
            for name, values in (("mean", added.mean), ("variance", added.variance)):
                of_rows = tf.gather(values, feature_of, batch_dims=1)
                key = f"{prefix}moving_{name}"
                told[key] = moving[key] * kept + expanded(of_rows, planes)
        return told

    # The way through ---------------------------------------------------------------------

    def _through(
        self, weights: Tensors, wiring: Wiring, x: Any, see: Callable[[Any], Any]
    ) -> list[Any]:
        """The outputs, where units read what ``see`` makes of each feature."""
        shape, networks = self._shape, x.shape[0]
        placed = _placed(self._fold, wiring.row_at, wiring.place_of, weights, "")
        features = [see(x)]
        for level in range(1, shape.levels + 1):
            features.append(self._level(level, placed, weights, features, see))
        placed = _placed(
            self._output_fold, wiring.output_row_at, wiring.output_place_of, weights, "output_"
        )
        wide = max(shape.outputs)
        dense = tf.reshape(placed, (networks, shape.features, len(shape.outputs), 2 * wide))
        bias = weights["output_bias"] + tf.reduce_sum(dense[..., wide:], axis=1)
        kernel = tf.reshape(dense[..., :wide], (networks, shape.features, -1))
        read = tf.concat(features, axis=2) if shape.levels else features[0]
        values = tf.matmul(read, kernel) + tf.reshape(bias, (networks, 1, -1))
        return [
            self._finished(number, values[..., number * wide : number * wide + width])
            for number, width in enumerate(shape.outputs)
        ]

    def _level(
        self,
        level: int,
        placed: Any,
        weights: Tensors,
        features: Sequence[Any],
        see: Callable[[Any], Any],
    ) -> Any:
        """What readers see of a level's neurons."""
        shape, networks = self._shape, placed.shape[0]
        above, neurons = shape.above(level), shape.neurons
        start = shape.start(level)
        block = placed[:, start : start + shape.rows(level) * shape.units]
        block = tf.reshape(block, (networks, shape.rows(level), shape.units, 2 * neurons))
        dense = block[..., :neurons]
        bias = weights["bias"][:, level - 1] + tf.reduce_sum(block[..., neurons:], axis=1)
        read = features[0] if level == 1 else tf.concat(features, axis=2)
        kernel = tf.reshape(dense[:, :above], (networks, above, shape.width))
        values = tf.matmul(read, kernel) + tf.reshape(bias, (networks, 1, shape.width))
        if not shape.lateral:
            return see(self._activation(values))
        plain: list[Any] = []
        gated: list[Any] = []
        for number in range(shape.units):
            own = values[:, :, number * neurons : (number + 1) * neurons]
            if number:
                left = number * neurons
                rows = [dense[:, above : above + left, number]]
                if shape.gated:
                    behind = above + shape.width
                    rows.append(dense[:, behind : behind + left, number])
                own += tf.matmul(tf.concat([*plain, *gated], axis=2), tf.concat(rows, axis=1))
            told = self._activation(own)
            plain.append(see(told))
            if shape.gated and number < shape.units - 1:
                gated.append(see(self._gate(told)))
        return tf.concat(plain, axis=2)

    def _moments(self, seen: Sequence[tuple[Any, Any]]) -> Moments:
        """Puts what was seen, in the order of the way through, in the order of the features."""
        shape = self._shape
        plain, gated, rest = [seen[0]], [], list(seen[1:])
        none = tf.zeros((seen[0][0].shape[0], shape.neurons), seen[0][0].dtype)
        for _ in range(shape.levels):
            if not shape.lateral:
                plain.append(rest.pop(0))
                continue
            for number in range(shape.units):
                plain.append(rest.pop(0))
                if shape.gated:
                    gated.append(rest.pop(0) if number < shape.units - 1 else (none, none))
        mean, variance = (
            tf.concat([values[i] for values in (*plain, *gated)], axis=1) for i in (0, 1)
        )
        return Moments(mean, variance)

    def _finished(self, number: int, values: Any) -> Any:
        """An output as the network gives it."""
        told = self._outputs[number]
        values = keras.activations.get(told["activation"])(values)
        if "scale" in told:
            scale = tf.constant(told["scale"], values.dtype)
            values = values * scale + tf.constant(told["offset"], values.dtype)
        return values


def _placed(
    fold: Callable[..., Any], row_at: Any, place_of: Any, weights: Tensors, prefix: str
) -> Any:
    """Weights and shifts of all rows side by side, each in its place."""
    names = ("kernel", "gamma", "beta")
    folded = fold(*(weights[prefix + name] for name in names))
    return placing(row_at, place_of)(tf.concat(folded, axis=2))
