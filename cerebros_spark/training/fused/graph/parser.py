"""Reads the JSON of a Keras program as a Cerebros network, without building it."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from cerebros_spark.training.fused.graph.network import (
    COPIES,
    FOLDED,
    SUMS,
    Network,
    Read,
    Recipe,
    Unit,
    Variable,
)

_UNIT = re.compile(r"level(\d+)_unit(\d+)_")

#: What stands between an input and the units: it has no weights.
_PREPARING = ("Rescaling", "Normalization", "Flatten", "Reshape")


#: Activations that mix the neurons of a unit: those that fill it up would take part.
_MIXING = ("glu", "log_softmax", "softmax", "sparsemax")

_DENSE_EXTRAS = (
    *(f"{what}_regularizer" for what in ("kernel", "bias", "activity")),
    *("kernel_constraint", "bias_constraint", "lora_rank", "quantization_config"),
)
_NORMALIZATION_EXTRAS = (
    *("beta_regularizer", "gamma_regularizer", "beta_constraint", "gamma_constraint"),
)


class UnreadableError(Exception):
    """The program is no network that can be fused; the message says why."""


def read(described: Mapping[str, Any]) -> tuple[Recipe, Network]:
    """The recipe and the network of a program.

    Args:
        described: The program's JSON, as ``keras_model.describe`` wrote it.

    Raises:
        UnreadableError: If it is anything but a Cerebros network of Dense units; the message
            says what is in the way.
    """
    if described.get("undecayed"):
        raise UnreadableError("it takes variables from weight decay")
    if described["imports"]:
        raise UnreadableError(f"it has objects of its own, from {', '.join(described['imports'])}")
    try:
        told = _Reader(described).told()
    except (AttributeError, IndexError, KeyError, TypeError, ValueError) as error:
        # Layers of any kind may be described in ways that are not known here.
        raise UnreadableError(f"it is described in another way: {error!r}") from error
    if not told[1].levels:
        raise UnreadableError("it has no hidden units")
    return told


class _Reader:
    """One program while it is read."""

    def __init__(self, described: Mapping[str, Any]) -> None:
        self._described = described
        architecture = described["architecture"]
        if architecture["class_name"] != "Functional":
            raise UnreadableError(f"it is a {architecture['class_name']} model")
        self._config = architecture["config"]
        self._layers = {layer["name"]: layer for layer in self._config["layers"]}
        self._order = list(self._layers)
        self._read_by = {name: inbound(layer) for name, layer in self._layers.items()}
        self._seen: dict[str, set[Any]] = {}
        self._at: dict[str, tuple[int, int]] = {}  # Dense layer -> level, number
        self._used: set[str] = set()
        self._sums = any(layer["class_name"] == "Add" for layer in self._layers.values())

    def told(self) -> tuple[Recipe, Network]:
        inputs = [name for name, *_ in _histories(self._config["input_layers"])]
        flats = [self._prepared(name) for name in inputs]
        for number, (_, last) in enumerate(flats):
            self._at[last] = 0, number
        ends = [self._end(name) for name, *_ in _histories(self._config["output_layers"])]
        dense = [name for name in self._order if self._kind(name) == "Dense"]
        finals = [name for name, _ in ends]
        for name in dense:
            self._place(name, finals)
        levels: dict[int, dict[int, Unit]] = {}
        for name in dense:
            if name not in finals:
                unit = self._unit(name)
                levels.setdefault(unit.level, {})[unit.number] = unit
        hidden = tuple(
            tuple(levels[level][number] for number in sorted(levels[level]))
            for level in sorted(levels)
        )
        outputs = tuple(self._unit(name) for name in finals)
        self._check_whole(hidden, outputs)
        copies = COPIES if self._one("dropout", 0.0) else FOLDED
        network = Network(
            tuple(self._width_of_input(chain) for chain, _ in flats),
            hidden,
            outputs,
            tuple(self._variables()),
            SUMS if self._sums else copies,
        )
        self._check_sums(network)
        return self._recipe(flats, ends, hidden, network.merge), network

    # The pieces --------------------------------------------------------------------------

    def _kind(self, name: str) -> str:
        return str(self._layers[name]["class_name"])

    def _sources(self, name: str) -> list[str]:
        """The layers that a layer reads."""
        calls = self._read_by[name]
        if len(calls) != 1:
            raise UnreadableError(f"the layer {name} is called {len(calls)} times")
        return calls[0]

    def _only(self, name: str) -> str:
        sources = self._sources(name)
        if len(sources) != 1:
            raise UnreadableError(f"the layer {name} reads {len(sources)} layers")
        return sources[0]

    def _readers(self, name: str) -> list[str]:
        return [
            other for other in self._order if self._read_by[other] and name in self._sources(other)
        ]

    def _prepared(self, name: str) -> tuple[list[str], str]:
        """An input, what prepares it, and the last of these."""
        chain = [name]
        while True:
            readers = self._readers(chain[-1])
            if len(readers) != 1 or self._kind(readers[0]) not in _PREPARING:
                return chain, chain[-1]
            chain.append(readers[0])

    def _end(self, name: str) -> tuple[str, Mapping[str, Any] | None]:
        """The Dense layer of an output, and the configuration of what scales it."""
        scaling = None
        if self._kind(name) == "Rescaling":
            scaling, name = self._layers[name]["config"], self._only(name)
        if self._kind(name) != "Dense":
            raise UnreadableError(f"the output {name} is no Dense layer")
        return name, scaling

    def _place(self, name: str, last: Sequence[str]) -> None:
        """Finds out on which level a Dense layer stands, from the names of the layers."""
        found = _UNIT.search(name)
        if name in last:
            self._at[name] = -1, last.index(name)
        elif found is None:
            raise UnreadableError(f"the layer {name} is on no level")
        else:
            self._at[name] = int(found[1]), int(found[2])

    def _unit(self, name: str) -> Unit:
        config = self._layers[name]["config"]
        if not config["use_bias"] or not config.get("trainable", True):
            raise UnreadableError(f"the layer {name} has no bias, or is not trained")
        self._without(name, _DENSE_EXTRAS)
        self._used.add(name)
        before, normalization = self._only(name), ""
        if self._kind(before) == "BatchNormalization":
            normalization = before
            self._normalized(before)
            before = self._only(before)
        elif self._kind(before) == "Dropout":
            self._left_out(before)
            before = self._only(before)
        merged = [before]
        if self._kind(before) == "Concatenate":
            self._used.add(before)
            merged = self._sources(before)
        level, number = self._at[name]
        parts = [part for each in merged for part in self._summed(each)]
        reads = tuple(self._read(source, level, number) for source in parts)
        return Unit(level, number, int(config["units"]), reads, normalization, name)

    def _normalized(self, name: str) -> None:
        config = self._layers[name]["config"]
        plain = config["center"] and config["scale"] and config["axis"] in (-1, 1)
        if not plain or not config.get("trainable", True) or config.get("renorm"):
            raise UnreadableError(f"the layer {name} is no plain batch normalization")
        if config["epsilon"] == 0:  # what fills up a unit has no variance
            raise UnreadableError(f"the layer {name} has epsilon=0")
        self._without(name, _NORMALIZATION_EXTRAS)
        self._used.add(name)
        self._note("normalization", (config["momentum"], config["epsilon"]))

    def _left_out(self, name: str) -> None:
        config = self._layers[name]["config"]
        if config.get("noise_shape") is not None:
            raise UnreadableError(f"the layer {name} has a noise_shape")
        self._used.add(name)
        self._note("dropout", config["rate"])

    def _summed(self, name: str) -> list[str]:
        """What a layer adds up; itself if it doesn't."""
        if self._kind(name) != "Add":
            return [name]
        self._used.add(name)
        return self._sources(name)

    def _without(self, name: str, extras: Sequence[str]) -> None:
        for extra in extras:
            if self._layers[name]["config"].get(extra) is not None:
                raise UnreadableError(f"the layer {name} has a {extra}")

    def _read(self, source: str, level: int, number: int) -> Read:
        gated = self._kind(source) == "Activation"
        if gated:
            self._used.add(source)
            self._note("gate", self._layers[source]["config"]["activation"])
            source = self._only(source)
        if source not in self._at:
            raise UnreadableError(f"a unit reads the layer {source} ({self._kind(source)})")
        at = self._at[source]
        lateral = at[0] == level and at[1] < number
        upstream = at[0] >= 0 and (at[0] < level or level < 0)
        if not (lateral or upstream) or (gated and not lateral):
            raise UnreadableError(f"a unit reads the layer {source}, which is not above it")
        return Read(*at, gated)

    def _note(self, what: str, value: Any) -> None:
        self._seen.setdefault(what, set()).add(_key(value))

    def _one(self, what: str, default: Any) -> Any:
        found = self._seen.get(what, {_key(default)})
        if len(found) > 1:
            raise UnreadableError(f"its layers differ in their {what}: {', '.join(sorted(found))}")
        return json.loads(next(iter(found)))

    # The whole ---------------------------------------------------------------------------

    def _check_whole(self, hidden: Sequence[Sequence[Unit]], outputs: Sequence[Unit]) -> None:
        for place, level in enumerate(hidden, start=1):
            if [(unit.level, unit.number) for unit in level] != [
                (place, number) for number in range(len(level))
            ]:
                raise UnreadableError(f"the units of level {place} are not numbered one by one")
        # In front of the outputs too, or nowhere.
        units = [unit for level in (*hidden, outputs) for unit in level]
        if len({bool(unit.normalization) for unit in units}) > 1:
            raise UnreadableError("some of its units are normalized and others are not")
        dropouts = sum(self._kind(name) == "Dropout" for name in self._used)
        if dropouts not in (0, len(units)):
            raise UnreadableError("Dropout stands before some of its units and not before others")
        known = {"InputLayer", *_PREPARING}
        for name in self._order:
            # Any layer may have one: it adds to the loss, which the rules here leave out.
            self._without(name, ["activity_regularizer"])
            if name not in self._used and self._kind(name) not in known:
                raise UnreadableError(f"it has a layer {name} ({self._kind(name)})")

    def _check_sums(self, network: Network) -> None:
        """All that is equally wide is added up, or nothing is."""
        for unit in network.units if self._sums else ():
            shape = self._layers[unit.dense]["build_config"]["input_shape"]
            if network.merged(unit) != shape[-1]:
                raise UnreadableError(f"the unit {unit.dense} adds up some of what it reads")

    def _width_of_input(self, chain: Sequence[str]) -> int:
        shape = self._layers[chain[0]]["config"]["batch_shape"][1:]
        if any(size is None for size in shape):
            raise UnreadableError(f"the input {chain[0]} has no fixed shape")
        return math.prod(shape)

    def _variables(self) -> Iterator[Variable]:
        widths = {}
        for name in self._order:
            if self._kind(name) == "Dropout" and self._layers[name]["config"]["rate"] > 0:
                yield Variable(name, "seed", (2,))
            if self._kind(name) in ("Dense", "BatchNormalization"):
                shapes = dict(self._layers[name]["build_config"])
                width = int(shapes["input_shape"][-1])
                widths[name] = width
                if self._kind(name) == "Dense":
                    units = int(self._layers[name]["config"]["units"])
                    yield Variable(name, "kernel", (width, units))
                    yield Variable(name, "bias", (units,))
                else:
                    for role in ("gamma", "beta", "moving_mean", "moving_variance"):
                        yield Variable(name, role, (width,))

    def _recipe(
        self,
        flats: Sequence[tuple[list[str], str]],
        ends: Sequence[tuple[str, Mapping[str, Any] | None]],
        hidden: Sequence[Sequence[Unit]],
        merge: str,
    ) -> Recipe:
        for level in hidden:
            for unit in level:
                self._note("activation", self._layers[unit.dense]["config"]["activation"])
        for name in self._used:
            self._note("dtype", _dtype(self._layers[name]["config"]["dtype"]))
        outputs = []
        for name, scaling in ends:
            config = self._layers[name]["config"]
            told = {"units": config["units"], "activation": config["activation"]}
            if scaling is not None:
                told.update(scale=scaling["scale"], offset=scaling["offset"])
            outputs.append(_key(told))
        activation = self._one("activation", "linear")
        gate = self._one("gate", "sigmoid")
        if not isinstance(activation, str) or not isinstance(gate, str):
            raise UnreadableError("an activation is no name of Keras")
        for each in (activation, gate):
            if each in _MIXING:
                raise UnreadableError(f"the activation {each} mixes the neurons of a unit")
        normalization = self._one("normalization", None)
        return Recipe(
            inputs=tuple(_key([_bare(self._layers[n]) for n in chain]) for chain, _ in flats),
            outputs=tuple(outputs),
            activation=activation,
            gate=gate,
            normalization=None if normalization is None else tuple(normalization),
            dropout=float(self._one("dropout", 0.0)),
            merge=merge,
            dtype=str(self._one("dtype", "float32")),
            compiled=_key(_without_rate(self._described["compile"])),
            class_weight=_key(self._described.get("class_weight")),
        )


def _without_rate(compiled: Mapping[str, Any]) -> dict[str, Any]:
    """A compile configuration without the learning rate: that is part of the state."""
    optimizer = dict(compiled["optimizer"])
    config = dict(optimizer["config"])
    if isinstance(config.get("learning_rate"), int | float):
        config["learning_rate"] = None
    config.pop("name", None)
    return {**compiled, "optimizer": {**optimizer, "config": config}}


def _bare(layer: Mapping[str, Any]) -> Any:
    return [layer["class_name"], {k: v for k, v in layer["config"].items() if k != "name"}]


def _dtype(told: Any) -> str:
    if isinstance(told, str):
        return told
    return str(told["config"]["name"])


def _key(value: Any) -> str:
    return json.dumps(value, sort_keys=True)


def _histories(told: Sequence[Any]) -> list[Any]:
    """The input or output layers of a model: one alone is not in a list of lists."""
    return [told] if told and isinstance(told[0], str) else list(told)


def inbound(layer: Mapping[str, Any]) -> list[list[str]]:
    """For each call of a layer the layers that it reads."""
    return [list(_sources(node["args"])) for node in layer["inbound_nodes"]]


def _sources(args: Any) -> Iterator[str]:
    if isinstance(args, dict):
        if args.get("class_name") == "__keras_tensor__":
            yield args["config"]["keras_history"][0]
    elif isinstance(args, list | tuple):
        for each in args:
            yield from _sources(each)
