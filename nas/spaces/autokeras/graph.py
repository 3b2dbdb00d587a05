"""AutoKeras graphs as a space: blocks between inputs and heads.

AutoKeras' own ``fit`` is not used. Its graph is told shapes and losses, and then builds.
"""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import autokeras as ak
import keras
import numpy as np
from autokeras.graph import Graph

from cerebros_spark.core.errors import ArgumentError
from cerebros_spark.training.keras.scopes import custom_object_scope
from cerebros_spark.training.keras.serialization import get_compile_config
from nas.data.heads import Target
from nas.spaces.autokeras.normalization import adapted
from nas.spaces.autokeras.overrides import overridden
from nas.spaces.functional import without_adapted


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
        custom_objects: Custom layers, losses and metrics, by name.
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
        custom_objects: Mapping[str, Any] | None = None,
    ) -> None:
        self._custom_objects = custom_objects
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
        graph = _Graph(inputs=self._inputs, outputs=self._outputs)
        with contextlib.ExitStack() as stack:
            for node, shape in zip(self._inputs, self._input_shapes, strict=True):
                stack.enter_context(_told(node, self._about_input(node, shape)))
            for target in self._targets:
                stack.enter_context(_told(target.head, _about_labels(target)))
            graph.set_fit_args(0, epochs=self._epochs)
            stack.enter_context(overridden(hp))
            model = graph.build(hp)
        # Clearing the session has made Keras forget them.
        with custom_object_scope(self._custom_objects):
            if self._loss_weights is not None:
                names = [target.name for target in self._targets]
                weights = dict(zip(names, self._loss_weights, strict=True))
                model.compile_from_config({**get_compile_config(model), "loss_weights": weights})
            # Of Normalization layers inside of pretrained models the statistics are their own.
            return without_adapted(adapted(model, self._statistics))

    def _about_input(self, node: Any, shape: Sequence[int]) -> dict[str, Any]:
        told = {
            "shape": list(shape),
            "dtype": "float32",
            "batch_size": self._batch_size,
            "num_samples": self._rows,
        }
        if type(node) in (ak.Input, ak.ImageInput):
            # Rows come as float32, so AutoKeras' own layers, which cast them and which nobody
            # can load without AutoKeras, have nothing to do.
            told["build"] = _as_image if isinstance(node, ak.ImageInput) else _as_it_is
        return told


class _Graph(Graph):
    def compile(self) -> None:
        """Does nothing.

        AutoKeras hands the columns' types of a StructuredDataInput to a StructuredDataBlock, which
        does not use them, and fails where the block reads something else.
        """


def _as_it_is(hp: Any, inputs: Any = None) -> Any:
    return inputs


def _as_image(hp: Any, inputs: Any = None) -> Any:
    """An image without an axis of channels gets one."""
    if len(inputs.shape) == 4:
        return inputs
    return keras.layers.Reshape((*inputs.shape[1:], 1))(inputs)


def _about_labels(target: Target) -> dict[str, Any]:
    told = {"shape": [target.width], "loss": target.loss, "metrics": list(target.metrics)}
    if target.num_classes is not None:
        told["num_classes"] = target.num_classes
    return told


@contextlib.contextmanager
def _told(block: Any, told: Mapping[str, Any]) -> Iterator[None]:
    """Tells a node or head about the data; afterwards it is again as its user made it."""
    before = {name: getattr(block, name, None) for name in told}
    vars(block).update(told)
    try:
        yield
    finally:
        vars(block).update(before)


def check_graph(inputs: Sequence[Any], outputs: Sequence[Any]) -> None:
    """Raises ArgumentError if nodes make no graph, or two blocks have one name."""
    try:
        graph = Graph(inputs=list(inputs), outputs=list(outputs))
    except ValueError as error:
        raise ArgumentError(
            f"the graph of inputs and outputs can't be used: {error} Every input must lead to an "
            "output, and every output must come from the given inputs"
        ) from error
    name, count = Counter(block.name for block in graph.blocks).most_common(1)[0]
    if count > 1:
        raise ArgumentError(
            f"{count} blocks of the graph are named {name!r}, so their hyperparameters would be "
            'one; give them names, for example ak.DenseBlock(name="left")'
        )


def check_shapes(inputs: Sequence[Any], shapes: Sequence[tuple[int, ...]]) -> None:
    """Raises ArgumentError if rows do not have the shape that an input stands for."""
    for number, (node, shape) in enumerate(zip(inputs, shapes, strict=True)):
        if isinstance(node, ak.ImageInput) and len(shape) not in (2, 3):
            raise ArgumentError(
                f"input {number} is an ImageInput, whose rows are (height, width) or (height, "
                f"width, channels), but the data's rows are {shape}; say it to fit, for example "
                "input_shape=(28, 28, 1)"
            )
        if isinstance(node, ak.TextInput) and len(shape) != 1:
            raise ArgumentError(
                f"input {number} is a TextInput, whose rows are token ids of one length, but the "
                f"data's rows are {shape}"
            )
