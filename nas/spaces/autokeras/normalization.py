"""Preprocessing layers of a built graph, completed by what is known of the data.

AutoKeras would adapt them, which is a pass over the data on one machine, and an adapted layer's
statistics are not restored with the weights. Here they become constants of the network.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np

from cerebros_spark.core.errors import ArgumentError
from cerebros_spark.training.keras.serialization import get_compile_config

Statistics = tuple[np.ndarray, np.ndarray]

# What is drawn while training is no part of the statistics: AutoKeras, too, adapts to plain rows.
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


def adapted(model: keras.Model, statistics: Sequence[Statistics]) -> keras.Model:
    """The same network with its preprocessing layers completed.

    A Normalization gets the mean and variance of what it reads. A RandomContrast no longer cuts
    values off outside of 0 … 255, which would halve rows that were normalized before.

    Args:
        model: A compiled functional model.
        statistics: Mean and variance of each element of each input over the training rows.

    Raises:
        ArgumentError: If the statistics of what a Normalization reads are not known.
    """
    changes = _Adaptation(model, statistics).changes()
    if not changes:
        return model
    config = json.loads(model.to_json())
    for each in config["config"]["layers"]:
        each["config"].update(changes.get(each["config"]["name"], {}))
    rebuilt = keras.models.model_from_json(json.dumps(config))
    rebuilt.compile_from_config(get_compile_config(model))
    # Pretrained weights, and those that initializers drew. A constant has no weights.
    gone = {
        id(variable)
        for layer in model.layers
        if isinstance(layer, keras.layers.Normalization) and layer.name in changes
        for variable in layer.variables
    }
    rebuilt.set_weights([v.numpy() for v in model.weights if id(v) not in gone])
    return rebuilt


class _Adaptation:
    """Follows the statistics of the inputs through a network, as far as they are exact."""

    def __init__(self, model: keras.Model, statistics: Sequence[Statistics]) -> None:
        self._layers = model.layers
        self._inputs = {
            tensor.name: (mean.reshape(tensor.shape[1:]), variance.reshape(tensor.shape[1:]))
            for tensor, (mean, variance) in zip(model.inputs, statistics, strict=True)
        }

    def changes(self) -> dict[str, dict[str, Any]]:
        """By name of a layer, what is new in its configuration."""
        found: dict[str, dict[str, Any]] = {}
        for layer in self._layers:
            if isinstance(layer, keras.layers.Normalization) and layer.input_mean is None:
                mean, variance = self._taken(layer)
                squeezed = tuple(i for i, a in enumerate(_kept(layer)) if not a)
                found[layer.name] = {
                    "mean": mean.squeeze(squeezed).tolist(),
                    "variance": variance.squeeze(squeezed).tolist(),
                }
            elif isinstance(layer, keras.layers.RandomContrast):
                found[layer.name] = {"value_range": _UNBOUNDED}
        return found

    def _taken(self, layer: keras.layers.Normalization) -> Statistics:
        """What a Normalization takes off and divides by, with the axes of a row."""
        mean, variance = self._of(layer.input, layer)
        over = tuple(i for i, kept in enumerate(_kept(layer)) if not kept)
        overall = mean.mean(axis=over, keepdims=True)
        spread = (variance + np.square(mean - overall)).mean(axis=over, keepdims=True)
        return overall, spread

    def _of(self, tensor: Any, reader: keras.layers.Layer) -> Statistics:
        """Mean and variance of each element of a tensor's rows."""
        operation, _, _ = tensor._keras_history
        shape = tensor.shape[1:]
        if isinstance(operation, keras.layers.InputLayer):
            return self._inputs[tensor.name]
        if isinstance(operation, _KEEPS_VALUES):
            mean, variance = self._of(operation.input, reader)
            return mean.reshape(shape), variance.reshape(shape)
        if isinstance(operation, keras.layers.Concatenate) and operation.axis == -1:
            parts = [self._of(part, reader) for part in operation.input]
            means, variances = zip(*parts, strict=True)
            return np.concatenate(means, axis=-1), np.concatenate(variances, axis=-1)
        if isinstance(operation, keras.layers.Normalization) and operation.input_mean is None:
            mean, variance = self._of(operation.input, reader)
            overall, spread = self._taken(operation)
            scale = np.maximum(np.sqrt(spread), keras.config.epsilon())
            return (mean - overall) / scale, variance / np.square(scale)
        raise ArgumentError(
            f"the Normalization {reader.name!r} reads {operation.name!r}; statistics are known "
            "of inputs only: put ak.Normalization() right behind its input, or say "
            "normalize=False to a block that searches it, or use batch normalization there"
        )


def _kept(layer: keras.layers.Normalization) -> list[bool]:
    """Which axes of a row have statistics of their own."""
    axes = len(layer.input.shape)
    kept = {axis % axes for axis in layer.axis}
    return [axis in kept for axis in range(1, axes)]
