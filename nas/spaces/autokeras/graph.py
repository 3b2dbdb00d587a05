"""Search space of an AutoKeras graph: blocks between inputs and heads.

The ``fit`` method of AutoKeras is not used: the space itself sets the shapes and losses and builds
the graph.
"""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import autokeras as ak
import keras
import keras_tuner
import numpy as np

from cerebros_spark.core.errors import ArgumentError
from cerebros_spark.training.keras.scopes import custom_object_scope
from cerebros_spark.training.keras.serialization import get_compile_config
from nas.compat.autokeras import PRETRAINED, Graph, UncompiledGraph
from nas.compat.keras_tuner import replace_lookup
from nas.data.heads import Target
from nas.spaces.autokeras.normalization import complete_preprocessing
from nas.spaces.base import Space
from nas.spaces.functional import inline_statistics


@dataclass(frozen=True)
class GraphSpace(Space):
    """Search space of the networks that an AutoKeras graph defines.

    Attributes:
        inputs: Input nodes.
        outputs: Output nodes, one for each head.
        targets: Heads, each with its loss, metrics and label properties.
        input_shapes: Shape of one row of each input, without the batch dimension.
        statistics: For each input, the mean and the variance over the training rows, as two arrays
            with one value per element of a row.
        batch_size: Rows per training step.
        rows: Number of training rows; with ``batch_size`` and ``epochs``, it determines the
            learning-rate schedules of AutoKeras.
        epochs: Number of epochs of a trial.
        loss_weights: Weight of each output's loss in the total loss; if None, all are 1.
        custom_objects: Custom layers, losses and metrics, by name; None if there are none.
    """

    inputs: Sequence[Any]
    outputs: Sequence[Any]
    targets: Sequence[Target]
    input_shapes: Sequence[tuple[int, ...]]
    statistics: Sequence[tuple[np.ndarray, np.ndarray]]
    batch_size: int
    rows: int
    epochs: int
    loss_weights: Sequence[float] | None = None
    custom_objects: Mapping[str, Any] | None = None

    def build(self, hp: Any) -> keras.Model:
        """Build the compiled network that hyperparameter values define."""
        # Otherwise the numbers in block names would increase, and every build would add
        # hyperparameters.
        policy = keras.config.dtype_policy()
        keras.backend.clear_session(free_memory=False)
        keras.config.set_dtype_policy(policy)
        graph = UncompiledGraph(inputs=list(self.inputs), outputs=list(self.outputs))
        with contextlib.ExitStack() as stack:
            for node, shape in zip(self.inputs, self.input_shapes, strict=True):
                stack.enter_context(_set_attributes(node, self._describe_input(node, shape)))
            for target in self.targets:
                stack.enter_context(_set_attributes(target.head, _describe_labels(target)))
            graph.set_fit_args(0, epochs=self.epochs)
            stack.enter_context(apply_overrides(hp))
            model = graph.build(hp)
        # Clearing the session has dropped the custom objects.
        with custom_object_scope(self.custom_objects):
            if self.loss_weights is not None:
                names = [target.name for target in self.targets]
                weights = dict(zip(names, self.loss_weights, strict=True))
                model.compile_from_config({**get_compile_config(model), "loss_weights": weights})
            # Normalization layers inside pretrained models already have statistics.
            return inline_statistics(complete_preprocessing(model, self.statistics))

    @property
    def points(self) -> list[dict[str, Any]]:
        """One configuration: the defaults of all blocks."""
        return [{}]

    def _describe_input(self, node: Any, shape: Sequence[int]) -> dict[str, Any]:
        attributes = {
            "shape": list(shape),
            "dtype": "float32",
            "batch_size": self.batch_size,
            "num_samples": self.rows,
        }
        if type(node) in (ak.Input, ak.ImageInput):
            # Rows are float32 already, so the casting layers of AutoKeras, which only AutoKeras can
            # load, are not needed.
            is_image = isinstance(node, ak.ImageInput)
            attributes["build"] = _add_channels if is_image else _pass_through
        return attributes


@contextlib.contextmanager
def apply_overrides(hp: Any) -> Iterator[None]:
    """Give the user's hyperparameters priority over those of blocks, within the context.

    A hyperparameter declared without a condition is not declared again under a condition.
    KerasTuner treats hyperparameters with different conditions as distinct, so it would otherwise
    sample the second declaration instead of using the first.

    The hyperparameter ``pretrained`` is fixed to False: a worker may have no internet access, and
    the space does not show what would be downloaded. To use pretrained weights, pass
    ``pretrained=True`` to the block, or override the hyperparameter.

    Args:
        hp: A ``keras_tuner.HyperParameters``.
    """

    def exists(original: Callable[..., bool], name: str, conditions: Any = None) -> bool:
        return original(name, conditions) or original(name, [])

    def retrieve(original: Callable[[Any], Any], definition: Any) -> Any:
        name, conditions = definition.name, definition.conditions
        is_pretrained = name.split("/")[-1] == PRETRAINED
        if is_pretrained and not exists(original_exists, name, conditions):
            definition = keras_tuner.engine.hyperparameters.Fixed(
                name, False, conditions=conditions
            )
        return original(definition)

    with replace_lookup(hp, exists, retrieve) as original_exists:
        yield


def _pass_through(hp: Any, inputs: Any = None) -> Any:
    return inputs


def _add_channels(hp: Any, inputs: Any = None) -> Any:
    if len(inputs.shape) == 4:
        return inputs
    return keras.layers.Reshape((*inputs.shape[1:], 1))(inputs)


def _describe_labels(target: Target) -> dict[str, Any]:
    attributes = {"shape": [target.width], "loss": target.loss, "metrics": list(target.metrics)}
    if target.num_classes is not None:
        attributes["num_classes"] = target.num_classes
    return attributes


@contextlib.contextmanager
def _set_attributes(block: Any, attributes: Mapping[str, Any]) -> Iterator[None]:
    before = {name: getattr(block, name, None) for name in attributes}
    vars(block).update(attributes)
    try:
        yield
    finally:
        vars(block).update(before)


def check_graph(inputs: Sequence[Any], outputs: Sequence[Any]) -> None:
    """Raise ArgumentError if the nodes do not form a graph, or if two blocks share a name."""
    try:
        graph = Graph(inputs=list(inputs), outputs=list(outputs))
    except ValueError as error:
        raise ArgumentError(
            f"cannot use the graph of inputs and outputs: {error} Every input must lead to an "
            "output, and every output must come from the given inputs"
        ) from error
    name, count = Counter(block.name for block in graph.blocks).most_common(1)[0]
    if count > 1:
        raise ArgumentError(
            f"{count} blocks of the graph are named {name!r}, so they would share hyperparameters; "
            'give them different names, for example ak.DenseBlock(name="left")'
        )


def check_shapes(inputs: Sequence[Any], shapes: Sequence[tuple[int, ...]]) -> None:
    """Raise ArgumentError if an input's row shape is invalid for its kind (image or text)."""
    for number, (node, shape) in enumerate(zip(inputs, shapes, strict=True)):
        if isinstance(node, ak.ImageInput) and len(shape) not in (2, 3):
            raise ArgumentError(
                f"input {number} is an ImageInput, whose rows are (height, width) or (height, "
                f"width, channels), but the data's rows are {shape}; pass the shape to fit, for "
                "example input_shape=(28, 28, 1)"
            )
        if isinstance(node, ak.TextInput) and len(shape) != 1:
            raise ArgumentError(
                f"input {number} is a TextInput, whose rows are token ids of one length, but the "
                f"data's rows are {shape}"
            )
