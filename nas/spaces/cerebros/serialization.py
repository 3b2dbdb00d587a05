"""Serialization of networks as programs and initial weights, without building them in Keras.

A program is the JSON form of a network that is sent to workers. Keras needs half a second to build
a network of hundreds of small layers, mostly to create variables that the driver does not use:
workers rebuild the network, or train it in a different form.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np

from cerebros_spark.compat.keras import keras_history
from cerebros_spark.training.fused.graph.parser import get_inbound_layers
from cerebros_spark.training.keras.metrics import check_additive
from cerebros_spark.training.keras.scopes import seeded_initializers
from cerebros_spark.training.keras.serialization import serialize_model
from nas.spaces.base import SerializedNetwork

# Configuration fields with the initializers of a layer's weights, in Keras order.
_WEIGHTS = {
    "Dense": ("kernel_initializer", "bias_initializer"),
    "BatchNormalization": (
        *("gamma_initializer", "beta_initializer"),
        *("moving_mean_initializer", "moving_variance_initializer"),
    ),
}
_CONSTANTS: dict[Any, Callable[..., np.ndarray]] = {
    keras.initializers.Zeros: np.zeros,
    keras.initializers.Ones: np.ones,
}
# Output width of a layer, from its input shapes and its configuration.
_WIDTHS: dict[str, Callable[[Any, Any], int]] = {
    **dict.fromkeys(
        ("Activation", "Add", "BatchNormalization", "Rescaling"),
        lambda shapes, config: int(shapes[0][-1]),
    ),
    "Concatenate": lambda shapes, config: sum(shape[-1] for shape in shapes),
    "Dense": lambda shapes, config: int(config["units"]),
}
# Layers for which Keras stores no input shapes, and call arguments besides the inputs.
_WITHOUT_SHAPES = ("Activation",)
_KEYWORDS: dict[str, dict[str, Any]] = {"BatchNormalization": {"mask": None}}


class NetworkTemplate:
    """Part of a program that all networks of a space share.

    Args:
        model: Compiled network without hidden units.
        flat: Flat input tensors of the model, which the units read.
        class_weight: Weight of each class in the training loss, by class index; None if
            all classes have weight 1.

    Raises:
        TrialError, ArgumentError: If the model cannot be serialized, or a metric is not additive.
    """

    def __init__(
        self, model: keras.Model, flat: Sequence[Any], class_weight: Mapping[int, float] | None
    ) -> None:
        self._program = json.loads(serialize_model(model, class_weight))
        check_additive(model)
        #: Flat inputs, which the units read.
        self.inputs = [
            RecordedTensor(keras_history(each).operation.name, tuple(each.shape), each.dtype)
            for each in flat
        ]

    def make_recorder(self) -> LayerRecorder:
        """Make a layer recorder that already contains the template's layers."""
        return LayerRecorder(self._program["architecture"]["config"]["layers"])

    def serialize(
        self, recorder: LayerRecorder, outputs: Sequence[RecordedTensor], optimizer: Any
    ) -> SerializedNetwork:
        """Serialize the network of recorded layers that computes ``outputs``."""
        names = [output.layer for output in outputs]
        layers = recorder.get_layers(names)
        optimizer_config = json.loads(json.dumps(keras.optimizers.serialize(optimizer)))
        # Keras numbers the optimizers of a process, so their names differ.
        compiled = self._program["compile"]
        optimizer_config["config"]["name"] = compiled["optimizer"]["config"]["name"]
        architecture = self._program["architecture"]
        config = {
            **architecture["config"],
            "layers": layers,
            "output_layers": [[name, 0, 0] for name in names],
        }
        compile_config = {**architecture["compile_config"], "optimizer": optimizer_config}
        program = {
            **self._program,
            "architecture": {**architecture, "config": config, "compile_config": compile_config},
            "compile": {**compiled, "optimizer": optimizer_config},
        }
        by_layer = [recorder.weights.get(layer["name"], []) for layer in layers]
        weights = tuple(weight for row in by_layer for weight in row)
        # The weights of a layer after the first two are moving statistics.
        trainable = tuple(number < 2 for row in by_layer for number in range(len(row)))
        parameters = sum(weight.size for weight in weights)
        return SerializedNetwork(
            json.dumps(program), weights, trainable, optimizer_config, parameters
        )


@dataclass(frozen=True)
class RecordedTensor:
    """Output of a recorded layer: its name, the shape with the batch dimension, and the dtype."""

    layer: str
    shape: tuple[int | None, ...]
    dtype: str

    def get_config(self) -> dict[str, Any]:
        """Return the configuration that Keras would write for the tensor."""
        return {
            "class_name": "__keras_tensor__",
            "config": {
                "shape": list(self.shape),
                "dtype": self.dtype,
                "keras_history": [self.layer, 0, 0],
            },
        }


class LayerRecorder:
    """Replacement for ``keras.layers`` that records the units' layers instead of building them.

    Args:
        layers: Configurations of existing layers whose outputs units may read.

    Attributes:
        weights: Initial weights of the recorded layers, by layer name.
    """

    def __init__(self, layers: Sequence[Mapping[str, Any]]) -> None:
        self._layers = {layer["name"]: layer for layer in layers}
        self.weights: dict[str, list[np.ndarray]] = {}

    def __getattr__(self, kind: str) -> Any:
        """Return a function that replaces the layer class ``kind`` and takes its arguments."""
        if kind not in _WIDTHS:
            raise AttributeError(f"cannot record layers of the class {kind!r}")
        return functools.partial(self._record, kind)

    def get_layers(self, outputs: Sequence[str]) -> list[Mapping[str, Any]]:
        """Return the configurations of all layers on which ``outputs`` depend, in Keras order."""
        return [self._layers[name] for name in sort_layers(self._get_sources, outputs)]

    def _record(
        self, kind: str, *, name: str, dtype: Any = None, **config: Any
    ) -> Callable[[Any], RecordedTensor]:
        """Return a function that records a call of a new layer; its seeds are drawn beforehand."""
        policy = str(keras.config.dtype_policy().name if dtype is None else dtype)
        template = _get_template(kind, json.dumps(config, sort_keys=True), policy)
        layer = {**template, "config": {**template["config"], "name": name}, "name": name}
        initializers = [
            _make_initializer(template["config"][field]) for field in _WEIGHTS.get(kind, ())
        ]

        def call(inputs: Any) -> RecordedTensor:
            several = isinstance(inputs, list)
            tensors = inputs if several else [inputs]
            shapes = [tensor.shape for tensor in tensors]
            if kind not in _WITHOUT_SHAPES:
                lists = [list(shape) for shape in shapes]
                layer["build_config"] = {"input_shape": lists if several else lists[0]}
            arguments = [tensor.get_config() for tensor in tensors]
            layer["inbound_nodes"] = [
                {"args": [arguments] if several else arguments, "kwargs": _KEYWORDS.get(kind, {})}
            ]
            self._layers[name] = layer
            if initializers:
                sizes = _get_weight_shapes(kind, int(shapes[0][-1] or 0), config)
                self.weights[name] = [
                    _initialize(initializer, size, policy)
                    for initializer, size in zip(initializers, sizes, strict=True)
                ]
            width = _WIDTHS[kind](shapes, config)
            return RecordedTensor(name, (*shapes[0][:-1], width), policy)

        return call

    def _get_sources(self, name: str) -> list[str]:
        return [source for call in get_inbound_layers(self._layers[name]) for source in call]


def sort_layers(sources: Callable[[str], Sequence[str]], outputs: Sequence[str]) -> list[str]:
    """Return the layers on which ``outputs`` depend, in the order of a functional Keras model.

    Layers farthest from the outputs come first. Layers at equal depth are in the order in which a
    depth-first search from the outputs finds them (``map_graph`` in ``keras/src/ops/function.py``).
    ``sources`` returns the names of the layers that a layer reads.
    """
    order: dict[str, int] = {}
    finished: list[str] = []
    read: dict[str, Sequence[str]] = {}

    def visit(name: str) -> None:
        if name in order:
            return
        order[name] = len(order)
        read[name] = list(dict.fromkeys(sources(name)))
        for source in read[name]:
            visit(source)
        finished.append(name)

    for output in outputs:
        visit(output)
    depths = dict.fromkeys(order, 0)
    for name in reversed(finished):
        for source in read[name]:
            depths[source] = max(depths[source], depths[name] + 1)
    return sorted(order, key=lambda name: (-depths[name], order[name]))


@functools.lru_cache(maxsize=256)
def _get_template(kind: str, config: str, policy: str) -> dict[str, Any]:
    """Return the serialized form of a new, unbuilt layer of the class ``kind``."""
    with seeded_initializers(0):  # leaves the network's random stream unchanged
        layer = getattr(keras.layers, kind)(**json.loads(config), dtype=policy)
    template: dict[str, Any] = json.loads(json.dumps(keras.saving.serialize_keras_object(layer)))
    return template


def _make_initializer(config: Mapping[str, Any]) -> Any:
    """Make an initializer; a random one draws its seed at once."""
    return _get_initializer_class(json.dumps(config)).from_config(dict(config["config"]))


@functools.lru_cache(maxsize=64)
def _get_initializer_class(config: str) -> Any:
    with seeded_initializers(0):
        return type(keras.initializers.deserialize(json.loads(config)))


def _initialize(initializer: Any, shape: tuple[int, ...], dtype: str) -> np.ndarray:
    # Most weights start as constants, which NumPy creates without calling TensorFlow.
    constant = _CONSTANTS.get(type(initializer))
    if constant is not None:
        return constant(shape, dtype)
    return np.asarray(initializer(shape, dtype=dtype))


def _get_weight_shapes(kind: str, width: int, config: Mapping[str, Any]) -> list[tuple[int, ...]]:
    if kind == "Dense":
        return [(width, config["units"]), (config["units"],)]
    return [(width,)] * len(_WEIGHTS[kind])
