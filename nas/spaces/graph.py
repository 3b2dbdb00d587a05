"""AutoKeras graphs as a space: blocks between inputs and heads.

AutoKeras' own ``fit`` is not used. Its graph is told shapes and losses, and then builds.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Sequence
from typing import Any

import keras
import numpy as np
from autokeras import keras_layers
from autokeras.graph import Graph

from cerebros_spark.errors import ArgumentError
from nas.heads import Target

_KEEPS_VALUES = (
    keras_layers.CastToFloat32,
    keras_layers.ExpandLastDim,
    keras.layers.Flatten,
    keras.layers.Reshape,
)


class GraphSpace:
    """Builds networks from an AutoKeras graph.

    Args:
        inputs: The input nodes.
        outputs: The output nodes, each the end of a head.
        targets: The heads, completed by the data.
        input_shapes: Shape of one row of each input.
        statistics: Mean and variance of each element of each input over the training rows.
        batch_size: Rows in a training step.
        rows: Number of training rows; with the batch size it sets AutoKeras' learning-rate
            schedules.
        epochs: Epochs of a trial.
        loss_weights: What each output's loss counts in the sum of them; None for 1.
    """

    def __init__(
        self,
        inputs: Sequence[Any],
        outputs: Sequence[Any],
        targets: Sequence[Target],
        input_shapes: Sequence[tuple[int, ...]],
        statistics: Sequence[tuple[np.ndarray, np.ndarray]],
        *,
        batch_size: int,
        rows: int,
        epochs: int,
        loss_weights: Sequence[float] | None = None,
    ) -> None:
        self._inputs = list(inputs)
        self._outputs = list(outputs)
        self._targets = list(targets)
        self._input_shapes = list(input_shapes)
        self._statistics = list(statistics)
        self._batch_size = batch_size
        self._rows = rows
        self._epochs = epochs
        self._loss_weights = loss_weights

    def build(self, hp: Any) -> keras.Model:
        """The compiled network of the values in ``hp``."""
        # Without this the names of blocks count on, and the space grows with every build.
        policy = keras.config.dtype_policy()
        keras.backend.clear_session()
        keras.config.set_dtype_policy(policy)
        graph = Graph(inputs=self._inputs, outputs=self._outputs)
        for node, shape in zip(self._inputs, self._input_shapes, strict=True):
            node.shape = list(shape)
            node.dtype = "float32"
            node.batch_size = self._batch_size
            node.num_samples = self._rows
        graph.set_fit_args(0, epochs=self._epochs)
        with contextlib.ExitStack() as stack:
            for target in self._targets:
                stack.enter_context(_told(target))
            model = graph.build(hp)
        if self._loss_weights is not None:
            names = [target.name for target in self._targets]
            weights = dict(zip(names, self._loss_weights, strict=True))
            model.compile_from_config({**model.get_compile_config(), "loss_weights": weights})
        return normalized(model, self._statistics)


@contextlib.contextmanager
def _told(target: Target) -> Iterator[None]:
    """Tells a head about its labels; afterwards it is again as its user made it."""
    told = {
        "shape": [target.width],
        "loss": target.loss,
        "metrics": list(target.metrics),
        "num_classes": target.num_classes,
    }
    head = target.head
    before = {name: getattr(head, name, None) for name in told}
    if target.num_classes is None:
        del told["num_classes"]
    vars(head).update(told)
    try:
        yield
    finally:
        vars(head).update({name: before[name] for name in told})


def normalized(
    model: keras.Model, statistics: Sequence[tuple[np.ndarray, np.ndarray]]
) -> keras.Model:
    """Gives the Normalization layers that read an input the input's statistics, as constants.

    AutoKeras would adapt them, which is a pass over the data on one machine, and an adapted
    layer's statistics are not restored with the weights.

    Raises:
        ArgumentError: If a Normalization layer reads something else than an input.
    """
    found = {}
    for layer in model.layers:
        if isinstance(layer, keras.layers.Normalization) and layer.input_mean is None:
            number = _input_read_by(layer, model)
            mean, variance = _by_axis(layer, *statistics[number])
            found[layer.name] = {"mean": mean.tolist(), "variance": variance.tolist()}
    if not found:
        return model
    config = json.loads(model.to_json())
    for each in config["config"]["layers"]:
        each["config"].update(found.get(each["config"]["name"], {}))
    rebuilt = keras.models.model_from_json(json.dumps(config))
    rebuilt.compile_from_config(model.get_compile_config())
    return rebuilt


def _input_read_by(layer: keras.layers.Layer, model: keras.Model) -> int:
    """Number of the model input that a layer reads, perhaps through casts and reshapes."""
    tensor = layer.input
    while True:
        operation, _, _ = tensor._keras_history
        if isinstance(operation, keras.layers.InputLayer):
            return [node.name for node in model.inputs].index(tensor.name)
        if not isinstance(operation, _KEEPS_VALUES) or isinstance(operation.input, list):
            raise ArgumentError(
                f"the Normalization {layer.name!r} reads {operation.name!r}; statistics are known "
                "of inputs only: put ak.Normalization() right behind its input, or use "
                "batch normalization there"
            )
        tensor = operation.input


def _by_axis(
    layer: keras.layers.Normalization, mean: np.ndarray, variance: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Statistics of the last axis from those of each element."""
    last = layer.input.shape[-1]
    mean, variance = mean.reshape(-1, last), variance.reshape(-1, last)
    overall = mean.mean(axis=0)
    return overall, (variance + np.square(mean - overall)).mean(axis=0)
