"""Layers that are written down instead of built, as Keras would describe them.

To build a network of hundreds of small layers takes Keras half a second, most of it for variables
that nobody looks at: workers build it anew, or train it in another form.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np

from cerebros_spark.training.fused.graph.parser import get_inbound_layers
from cerebros_spark.training.keras.scopes import seeded_initializers

#: Keras' weights of a layer, in its order: for each one the field of the layer's configuration
#: that tells how it begins.
_WEIGHTS = {
    "Dense": ("kernel_initializer", "bias_initializer"),
    "BatchNormalization": (
        "gamma_initializer",
        "beta_initializer",
        "moving_mean_initializer",
        "moving_variance_initializer",
    ),
}
_CONSTANTS: dict[Any, Callable[..., np.ndarray]] = {
    keras.initializers.Zeros: np.zeros,
    keras.initializers.Ones: np.ones,
}
# What Keras doesn't write down the shapes of, and what it is called with besides its input.
_WITHOUT_SHAPES = ("Activation",)
_KEYWORDS: dict[str, dict[str, Any]] = {"BatchNormalization": {"mask": None}}


@dataclass(frozen=True)
class Recorded:
    """What a layer gives.

    Attributes:
        layer: Name of the layer.
        shape: Its shape, the batch dimension first.
        dtype: Its type.
    """

    layer: str
    shape: tuple[int | None, ...]
    dtype: str


class Recorder:
    """Stands in for ``keras.layers``, as far as networks of units need it.

    Args:
        described: Layers that are there already, as Keras describes them.

    Attributes:
        weights: The initial weights of each layer that has some.
    """

    def __init__(self, described: Sequence[Mapping[str, Any]] = ()) -> None:
        self._layers = {layer["name"]: layer for layer in described}
        self.weights: dict[str, list[np.ndarray]] = {}

    def Dense(self, units: int, **config: Any) -> Callable[[Recorded], Recorded]:  # noqa: N802
        """A Dense layer; its kernel's seed is drawn now, as Keras draws it."""
        return self._layer("Dense", lambda shapes: units, units=units, **config)

    def BatchNormalization(self, **config: Any) -> Callable[[Recorded], Recorded]:  # noqa: N802
        """A batch normalization."""
        return self._layer("BatchNormalization", _same, **config)

    def Activation(self, activation: str, **config: Any) -> Callable[[Recorded], Recorded]:  # noqa: N802
        """An activation by itself."""
        return self._layer("Activation", _same, activation=activation, **config)

    def Rescaling(self, **config: Any) -> Callable[[Recorded], Recorded]:  # noqa: N802
        """A scale and an offset."""
        return self._layer("Rescaling", _same, **config)

    def Concatenate(self, **config: Any) -> Callable[[Sequence[Recorded]], Recorded]:  # noqa: N802
        """Several side by side."""
        return self._layer("Concatenate", lambda shapes: sum(s[-1] for s in shapes), **config)

    def Add(self, **config: Any) -> Callable[[Sequence[Recorded]], Recorded]:  # noqa: N802
        """The sum of several."""
        return self._layer("Add", _same, **config)

    def described(self, outputs: Sequence[str]) -> list[Mapping[str, Any]]:
        """All layers that outputs need, described in Keras' order."""
        return [self._layers[name] for name in in_order(self._sources, outputs)]

    def _layer(
        self, kind: str, width: Callable[[Any], int], *, name: str, dtype: Any = None, **config: Any
    ) -> Callable[[Any], Recorded]:
        told = _template(kind, json.dumps(config, sort_keys=True), _policy(dtype))
        written = {**told, "config": {**told["config"], "name": name}, "name": name}
        initializers = [_initializer(told["config"][field]) for field in _WEIGHTS.get(kind, ())]

        def call(inputs: Any) -> Recorded:
            many = isinstance(inputs, list)
            shapes = [each.shape for each in (inputs if many else [inputs])]
            tensors = [_tensor(each) for each in (inputs if many else [inputs])]
            if kind not in _WITHOUT_SHAPES:
                listed = [list(shape) for shape in shapes]
                written["build_config"] = {"input_shape": listed if many else listed[0]}
            written["inbound_nodes"] = [
                {"args": [tensors] if many else tensors, "kwargs": _KEYWORDS.get(kind, {})}
            ]
            self._layers[name] = written
            if initializers:
                sizes = _sizes(kind, int(shapes[0][-1] or 0), config)
                dtypes = [_policy(dtype)] * len(sizes)
                self.weights[name] = list(map(_begun, initializers, sizes, dtypes))
            return Recorded(name, (*shapes[0][:-1], width(shapes)), _policy(dtype))

        return call

    def _sources(self, name: str) -> list[str]:
        """The layers that a layer reads."""
        return [source for call in get_inbound_layers(self._layers[name]) for source in call]


def in_order(sources: Callable[[str], Sequence[str]], outputs: Sequence[str]) -> list[str]:
    """Layers in the order in which Keras' Functional models keep them, and so their weights.

    The deepest come first, and of those that are as deep the ones that a search from the outputs
    meets first (``map_graph`` in ``keras/src/ops/function.py``).

    Args:
        sources: Gives the layers that a layer reads.
        outputs: The layers that give the outputs.
    """
    met: dict[str, int] = {}
    done: list[str] = []
    read: dict[str, Sequence[str]] = {}

    def visit(name: str) -> None:
        if name in met:
            return
        met[name] = len(met)
        read[name] = list(dict.fromkeys(sources(name)))
        for source in read[name]:
            visit(source)
        done.append(name)

    for output in outputs:
        visit(output)
    depths = dict.fromkeys(met, 0)
    for name in reversed(done):
        for source in read[name]:
            depths[source] = max(depths[source], depths[name] + 1)
    return sorted(met, key=lambda name: (-depths[name], met[name]))


@functools.lru_cache(maxsize=256)
def _template(kind: str, config: str, policy: str) -> dict[str, Any]:
    """A layer as Keras describes it before it is built."""
    with seeded_initializers(0):  # what it draws is not the network's
        layer = getattr(keras.layers, kind)(**json.loads(config), dtype=policy)
    told: dict[str, Any] = keras.saving.serialize_keras_object(layer)
    return json.loads(json.dumps(told))


def _initializer(told: Mapping[str, Any]) -> Any:
    """What a weight begins with; if it is random, its seed is drawn now."""
    kind = _initializer_class(json.dumps(told))
    return kind.from_config(dict(told["config"]))


@functools.lru_cache(maxsize=64)
def _initializer_class(told: str) -> Any:
    with seeded_initializers(0):
        return type(keras.initializers.deserialize(json.loads(told)))


def _begun(initializer: Any, size: tuple[int, ...], dtype: str) -> np.ndarray:
    # Most weights by far begin as constants, which NumPy has without a call of TensorFlow.
    constant = _CONSTANTS.get(type(initializer))
    if constant is not None:
        return constant(size, dtype)
    return np.asarray(initializer(size, dtype=dtype))


def _policy(dtype: Any) -> str:
    return str(keras.config.dtype_policy().name if dtype is None else dtype)


def _same(shapes: Sequence[Sequence[Any]]) -> int:
    return int(shapes[0][-1])


def _sizes(kind: str, width: int, config: Mapping[str, Any]) -> list[tuple[int, ...]]:
    if kind == "Dense":
        return [(width, config["units"]), (config["units"],)]
    return [(width,)] * len(_WEIGHTS[kind])


def _tensor(recorded: Recorded) -> dict[str, Any]:
    return {
        "class_name": "__keras_tensor__",
        "config": {
            "shape": list(recorded.shape),
            "dtype": recorded.dtype,
            "keras_history": [recorded.layer, 0, 0],
        },
    }
