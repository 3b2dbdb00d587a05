"""Fills the preprocessing layers of a built AutoKeras graph with the data's statistics.

AutoKeras would adapt these layers, which requires a pass over the data on one machine; moreover, an
adapted layer's statistics are not restored with the weights. Here, they become constants of the
network.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np

from cerebros_spark.compat.keras import keras_history
from cerebros_spark.core.errors import ArgumentError
from nas.spaces.functional import rebuild

Statistics = tuple[np.ndarray, np.ndarray]

# Augmentation is assumed not to change the statistics: AutoKeras also adapts to rows without it.
_KEEPS_VALUES = (
    keras.layers.Flatten,
    keras.layers.Identity,
    keras.layers.RandomContrast,
    keras.layers.RandomFlip,
    keras.layers.RandomRotation,
    keras.layers.RandomTranslation,
    keras.layers.RandomZoom,
    keras.layers.Reshape,
)
_UNBOUNDED = [float(np.finfo("float32").min), float(np.finfo("float32").max)]


def complete_preprocessing(model: keras.Model, statistics: Sequence[Statistics]) -> keras.Model:
    """Return the network with the data's statistics in its layers, and the same weights.

    Each ``Normalization`` layer gets the mean and variance of its input as constants. Clipping to
    [0, 255] is disabled in ``RandomContrast`` layers, because it would cut off half of the
    normalized values.

    Args:
        model: The network.
        statistics: For each input, the mean and the variance over the training rows, as two arrays
            with one value per element of a row.

    Raises:
        ArgumentError: If the input statistics of a ``Normalization`` layer cannot be derived.
    """
    changes = _Completion(model, statistics).find_changes()
    if not changes:
        return model
    architecture = json.loads(model.to_json())
    for layer in architecture["config"]["layers"]:
        layer["config"].update(changes.get(layer["config"]["name"], {}))
    completed = [
        layer
        for layer in model.layers
        if isinstance(layer, keras.layers.Normalization) and layer.name in changes
    ]
    return rebuild(model, architecture, completed)


class _Completion:
    """Derives the statistics of a network's inner layers from those of its inputs."""

    def __init__(self, model: keras.Model, statistics: Sequence[Statistics]) -> None:
        self._layers = model.layers
        self._inputs = {
            tensor.name: (mean.reshape(tensor.shape[1:]), variance.reshape(tensor.shape[1:]))
            for tensor, (mean, variance) in zip(model.inputs, statistics, strict=True)
        }

    def find_changes(self) -> dict[str, dict[str, Any]]:
        """Return the config fields to change in each layer, by layer name."""
        changes: dict[str, dict[str, Any]] = {}
        for layer in self._layers:
            if _is_incomplete(layer):
                mean, variance = self._reduce(layer)
                reduced = _find_reduced_axes(layer)
                changes[layer.name] = {
                    "mean": mean.squeeze(reduced).tolist(),
                    "variance": variance.squeeze(reduced).tolist(),
                }
            elif isinstance(layer, keras.layers.RandomContrast):
                changes[layer.name] = {"value_range": _UNBOUNDED}
        return changes

    def _reduce(self, layer: keras.layers.Normalization) -> Statistics:
        """Return a Normalization layer's mean and variance; the reduced axes have size 1."""
        mean, variance = self._propagate(layer.input, layer)
        reduced = _find_reduced_axes(layer)
        center = mean.mean(axis=reduced, keepdims=True)
        spread = (variance + np.square(mean - center)).mean(axis=reduced, keepdims=True)
        return center, spread

    def _propagate(self, tensor: Any, reader: keras.layers.Layer) -> Statistics:
        """Return the mean and variance of each element of a row of ``tensor``.

        Raise an ArgumentError that names the layer ``reader`` if they cannot be derived.
        """
        operation = keras_history(tensor).operation
        shape = tensor.shape[1:]
        if isinstance(operation, keras.layers.InputLayer):
            return self._inputs[tensor.name]
        if isinstance(operation, _KEEPS_VALUES):
            mean, variance = self._propagate(operation.input, reader)
            return mean.reshape(shape), variance.reshape(shape)
        if isinstance(operation, keras.layers.Concatenate) and operation.axis == -1:
            parts = [self._propagate(part, reader) for part in operation.input]
            means, variances = zip(*parts, strict=True)
            return np.concatenate(means, axis=-1), np.concatenate(variances, axis=-1)
        if _is_incomplete(operation):
            mean, variance = self._propagate(operation.input, reader)
            center, spread = self._reduce(operation)
            scale = np.maximum(np.sqrt(spread), keras.config.epsilon())
            return (mean - center) / scale, variance / np.square(scale)
        raise ArgumentError(
            f"the Normalization {reader.name!r} reads {operation.name!r}, but only the statistics "
            "of inputs are known: put ak.Normalization() directly after its input, pass "
            "normalize=False to a block that searches it, or use batch normalization instead"
        )


def _is_incomplete(layer: Any) -> bool:
    return isinstance(layer, keras.layers.Normalization) and layer.input_mean is None


def _find_reduced_axes(layer: keras.layers.Normalization) -> tuple[int, ...]:
    """Return the axes of one row over which a Normalization layer averages."""
    axes = len(layer.input.shape)
    kept = {axis % axes for axis in layer.axis}
    return tuple(axis - 1 for axis in range(1, axes) if axis not in kept)
