"""Parser that reads a Cerebros network from a Keras model's JSON, without building the model."""

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
    Connection,
    GroupConfig,
    Network,
    Unit,
    Variable,
)
from cerebros_spark.training.keras import schedules

_UNIT_NAME = re.compile(r"level(\d+)_unit(\d+)_")

# Layers without weights that may follow an input.
_PREPROCESSING = ("Rescaling", "Normalization", "Flatten", "Reshape")

# Activations that read all neurons of a unit, and would read padding, too.
_MIXING = ("glu", "log_softmax", "softmax", "sparsemax")

_DENSE_EXTRAS = (
    *(f"{what}_regularizer" for what in ("kernel", "bias", "activity")),
    *("kernel_constraint", "bias_constraint", "lora_rank", "quantization_config"),
)
_NORMALIZATION_EXTRAS = (
    *("beta_regularizer", "gamma_regularizer", "beta_constraint", "gamma_constraint"),
)


class NotFusableError(Exception):
    """Error raised if fused training does not support a trial's program; the message says why."""


def _require(condition: Any, reason: str) -> None:
    if not condition:
        raise NotFusableError(reason)


def parse_network(program: Mapping[str, Any]) -> tuple[GroupConfig, Network]:
    """Parse a trial's program, as decoded JSON, into its group configuration and its network.

    Raises:
        NotFusableError: If the model is not a Cerebros network, or has unsupported settings.
    """
    imports = ", ".join(sorted(set(program["imports"]) - {schedules.__name__}))
    _require(not program.get("undecayed"), "it excludes variables from weight decay")
    _require(not imports, f"it has custom objects of {imports}")
    try:
        config, network = _Parser(program).parse()
    except (AttributeError, IndexError, KeyError, TypeError, ValueError) as error:
        # Unknown layers can have any configuration.
        raise NotFusableError(f"its configuration is not as expected: {error!r}") from error
    _require(network.levels, "it has no hidden units")
    return config, network


class _Parser:
    def __init__(self, program: Mapping[str, Any]) -> None:
        self._program = program
        architecture = program["architecture"]
        kind = architecture["class_name"]
        _require(kind == "Functional", f"it is a {kind} model")
        self._config = architecture["config"]
        layers = self._config["layers"]
        self._kinds: dict[str, str] = {layer["name"]: layer["class_name"] for layer in layers}
        self._configs: dict[str, Any] = {layer["name"]: layer["config"] for layer in layers}
        self._input_widths = {
            layer["name"]: layer["build_config"]["input_shape"][-1]
            for layer in layers
            if layer["class_name"] in ("Dense", "BatchNormalization")
        }
        self._calls = {layer["name"]: get_inbound_layers(layer) for layer in layers}
        self._settings: dict[str, set[str]] = {}  # JSON values; must be equal in all layers
        self._positions: dict[str, tuple[int, int]] = {}  # layer -> level and position on it
        self._used: set[str] = set()
        self._sums = "Add" in self._kinds.values()

    def parse(self) -> tuple[GroupConfig, Network]:
        chains = [
            self._follow_preprocessing(name)
            for name in _get_layer_names(self._config["input_layers"])
        ]
        for number, chain in enumerate(chains):
            self._positions[chain[-1]] = 0, number
        outputs = [
            self._find_output(name) for name in _get_layer_names(self._config["output_layers"])
        ]
        output_names = [name for name, _ in outputs]
        dense = [name for name, kind in self._kinds.items() if kind == "Dense"]
        for name in dense:
            self._locate(name, output_names)
        levels: dict[int, dict[int, Unit]] = {}
        for name in dense:
            if name not in output_names:
                unit = self._parse_unit(name)
                levels.setdefault(unit.level, {})[unit.number] = unit
        hidden = tuple(
            tuple(units[number] for number in sorted(units)) for _, units in sorted(levels.items())
        )
        output_units = tuple(self._parse_unit(name) for name in output_names)
        self._check_whole(hidden, output_units)
        copies = COPIES if self._get_agreed("dropout", 0.0) else FOLDED
        network = Network(
            tuple(self._get_input_size(chain[0]) for chain in chains),
            hidden,
            output_units,
            tuple(self._list_variables()),
            SUMS if self._sums else copies,
        )
        for unit in network.units if self._sums else ():  # must add all sources of equal width
            _require(
                network.merged_width(unit) == self._input_widths[unit.dense],
                f"the unit {unit.dense} adds up only some of its sources",
            )
        return self._make_group_config(chains, outputs, network), network

    # Layers and their sources ----------------------------------------------------------------

    def _get_sources(self, name: str) -> list[str]:
        calls = self._calls[name]
        _require(len(calls) == 1, f"the layer {name} is called {len(calls)} times")
        return calls[0]

    def _get_only_source(self, name: str) -> str:
        sources = self._get_sources(name)
        _require(len(sources) == 1, f"the layer {name} reads {len(sources)} layers")
        return sources[0]

    def _find_readers(self, name: str) -> list[str]:
        return [
            other
            for other in self._kinds
            if self._calls[other] and name in self._get_sources(other)
        ]

    def _follow_preprocessing(self, name: str) -> list[str]:
        """Return the name of an input layer, then those of the preprocessing layers after it."""
        chain = [name]
        while True:
            readers = self._find_readers(chain[-1])
            if len(readers) != 1 or self._kinds[readers[0]] not in _PREPROCESSING:
                return chain
            chain.append(readers[0])

    def _find_output(self, name: str) -> tuple[str, Mapping[str, Any] | None]:
        """Return the name of an output's Dense layer, and its Rescaling layer's configuration.

        The configuration is None if there is no Rescaling layer.
        """
        scaling = None
        if self._kinds[name] == "Rescaling":
            scaling, name = self._configs[name], self._get_only_source(name)
        _require(self._kinds[name] == "Dense", f"the output {name} is not a Dense layer")
        return name, scaling

    def _locate(self, name: str, outputs: Sequence[str]) -> None:
        """Store a Dense layer's level and position, from its name or its index in ``outputs``."""
        match = _UNIT_NAME.search(name)
        if name in outputs:
            self._positions[name] = -1, outputs.index(name)
        elif match is None:
            raise NotFusableError(f"the layer {name} has no level in its name")
        else:
            self._positions[name] = int(match[1]), int(match[2])

    def _parse_unit(self, name: str) -> Unit:
        config = self._configs[name]
        trained = config["use_bias"] and config.get("trainable", True)
        _require(trained, f"the layer {name} has no bias, or is not trained")
        self._refuse_settings(name, _DENSE_EXTRAS)
        self._used.add(name)
        before, normalization = self._get_only_source(name), ""
        if self._kinds[before] == "BatchNormalization":
            normalization = before
            self._use_normalization(before)
            before = self._get_only_source(before)
        elif self._kinds[before] == "Dropout":
            self._use_dropout(before)
            before = self._get_only_source(before)
        merged = [before]
        if self._kinds[before] == "Concatenate":
            self._used.add(before)
            merged = self._get_sources(before)
        level, number = self._positions[name]
        sources = [source for each in merged for source in self._list_added(each)]
        connections = tuple(self._parse_connection(source, level, number) for source in sources)
        return Unit(level, number, int(config["units"]), connections, normalization, name)

    def _use_normalization(self, name: str) -> None:
        config = self._configs[name]
        plain = config["center"] and config["scale"] and config["axis"] in (-1, 1)
        trained = config.get("trainable", True) and not config.get("renorm")
        _require(plain and trained, f"the layer {name} is not a plain batch normalization")
        # Padding has a variance of 0, by which epsilon=0 would divide.
        _require(config["epsilon"] != 0, f"the layer {name} has epsilon=0")
        self._refuse_settings(name, _NORMALIZATION_EXTRAS)
        self._used.add(name)
        self._note("normalization", (config["momentum"], config["epsilon"]))

    def _use_dropout(self, name: str) -> None:
        config = self._configs[name]
        _require(config.get("noise_shape") is None, f"the layer {name} has a noise_shape")
        self._used.add(name)
        self._note("dropout", config["rate"])

    def _list_added(self, name: str) -> list[str]:
        """Return the names of the layers that an Add layer adds; for other layers, ``[name]``."""
        if self._kinds[name] != "Add":
            return [name]
        self._used.add(name)
        return self._get_sources(name)

    def _refuse_settings(self, name: str, settings: Sequence[str]) -> None:
        for setting in settings:
            is_off = self._configs[name].get(setting) is None
            _require(is_off, f"the layer {name} sets {setting}")

    def _parse_connection(self, source: str, level: int, number: int) -> Connection:
        gated = self._kinds[source] == "Activation"
        if gated:
            self._used.add(source)
            self._note("gate", self._configs[source]["activation"])
            source = self._get_only_source(source)
        reads = f"a unit reads the layer {source}"
        _require(source in self._positions, f"{reads} ({self._kinds[source]})")
        source_level, source_number = self._positions[source]
        lateral = source_level == level and source_number < number
        upstream = source_level >= 0 and (source_level < level or level < 0)
        allowed = lateral or (upstream and not gated)
        _require(allowed, f"{reads} through an unsupported connection")
        return Connection(source_level, source_number, gated)

    def _note(self, setting: str, value: Any) -> None:
        self._settings.setdefault(setting, set()).add(_to_json(value))

    def _get_agreed(self, setting: str, default: Any) -> Any:
        values = sorted(self._settings.get(setting, {_to_json(default)}))
        _require(len(values) == 1, f"its layers differ in their {setting}: {', '.join(values)}")
        return json.loads(values[0])

    # The whole network -----------------------------------------------------------------------

    def _check_whole(self, hidden: Sequence[Sequence[Unit]], outputs: Sequence[Unit]) -> None:
        for place, level in enumerate(hidden, start=1):
            numbers = [(unit.level, unit.number) for unit in level]
            expected = [(place, number) for number in range(len(level))]
            _require(numbers == expected, f"the units of level {place} have gaps in their numbers")
        # Either all units are normalized, output units included, or none is.
        units = [unit for level in (*hidden, outputs) for unit in level]
        normalized = {bool(unit.normalization) for unit in units}
        _require(len(normalized) == 1, "some of its units are normalized and others are not")
        dropouts = sum(self._kinds[name] == "Dropout" for name in self._used)
        _require(dropouts in (0, len(units)), "it has Dropout before only some of its units")
        for name, kind in self._kinds.items():
            # Any layer may have one. It adds to the loss, and fused training does not compute it.
            self._refuse_settings(name, ["activity_regularizer"])
            known = name in self._used or kind in ("InputLayer", *_PREPROCESSING)
            _require(known, f"it has the unsupported layer {name} ({kind})")

    def _get_input_size(self, name: str) -> int:
        shape = self._configs[name]["batch_shape"][1:]
        _require(None not in shape, f"the input {name} has no fixed shape")
        return math.prod(shape)

    def _list_variables(self) -> Iterator[Variable]:
        for name, kind in self._kinds.items():
            config = self._configs[name]
            if kind == "Dropout" and config["rate"] > 0:
                yield Variable(name, "seed", (2,))
            elif kind == "Dense":
                units = int(config["units"])
                yield Variable(name, "kernel", (self._input_widths[name], units))
                yield Variable(name, "bias", (units,))
            elif kind == "BatchNormalization":
                for role in ("gamma", "beta", "moving_mean", "moving_variance"):
                    yield Variable(name, role, (self._input_widths[name],))

    def _make_group_config(
        self,
        chains: Sequence[Sequence[str]],
        outputs: Sequence[tuple[str, Mapping[str, Any] | None]],
        network: Network,
    ) -> GroupConfig:
        for unit in network.hidden:
            self._note("activation", self._configs[unit.dense]["activation"])
        for name in self._used:
            self._note("dtype", _get_dtype_name(self._configs[name]["dtype"]))
        activation, gate = (
            self._get_agreed("activation", "linear"),
            self._get_agreed("gate", "sigmoid"),
        )
        for each in (activation, gate):
            _require(isinstance(each, str), "an activation is not built into Keras")
            _require(each not in _MIXING, f"the activation {each} mixes the neurons of a unit")
        normalization = self._get_agreed("normalization", None)
        return GroupConfig(
            inputs=tuple(_to_json([self._strip_name(n) for n in chain]) for chain in chains),
            outputs=tuple(self._describe_output(*output) for output in outputs),
            activation=activation,
            gate=gate,
            normalization=None if normalization is None else tuple(normalization),
            dropout=float(self._get_agreed("dropout", 0.0)),
            merge=network.merge,
            dtype=str(self._get_agreed("dtype", "float32")),
            compiled=_to_json(_remove_learning_rate(self._program["compile"])),
            class_weight=_to_json(self._program.get("class_weight")),
            gradient_scale=float(self._program.get("gradient_scale", 1.0)),
        )

    def _strip_name(self, name: str) -> Any:
        config = self._configs[name]
        return [self._kinds[name], {k: v for k, v in config.items() if k != "name"}]

    def _describe_output(self, name: str, scaling: Mapping[str, Any] | None) -> str:
        output = {key: self._configs[name][key] for key in ("units", "activation")}
        if scaling is not None:
            output.update(scale=scaling["scale"], offset=scaling["offset"])
        return _to_json(output)


def _remove_learning_rate(compiled: Mapping[str, Any]) -> dict[str, Any]:
    """Return a compile configuration without the values of its learning rate.

    A constant rate is part of the model state, and a schedule is evaluated for each network. So
    trials that differ only in these values can train together.
    """
    optimizer = dict(compiled["optimizer"])
    config = dict(optimizer["config"])
    rate = config.get("learning_rate")
    if isinstance(rate, int | float):
        config["learning_rate"] = None
    elif isinstance(rate, Mapping) and rate.get("registered_name") in schedules.SCHEDULES:
        if rate["config"].get("fades"):
            raise NotFusableError("its schedule changes dropout rates and weight decay")
        config["learning_rate"] = rate["registered_name"]
    config.pop("name", None)
    return {**compiled, "optimizer": {**optimizer, "config": config}}


def _get_dtype_name(dtype: Any) -> str:
    return dtype if isinstance(dtype, str) else str(dtype["config"]["name"])


def _to_json(value: Any) -> str:
    return json.dumps(value, sort_keys=True)


def _get_layer_names(histories: Sequence[Any]) -> list[str]:
    """Return the names of input or output layers; a single layer may be given as a flat list."""
    listed = [histories] if histories and isinstance(histories[0], str) else histories
    return [name for name, *_ in listed]


def get_inbound_layers(layer: Mapping[str, Any]) -> list[list[str]]:
    """Return the names of the layers that a serialized layer reads, as one list per call."""
    return [list(_find_sources(node["args"])) for node in layer["inbound_nodes"]]


def _find_sources(args: Any) -> Iterator[str]:
    if isinstance(args, dict):
        if args.get("class_name") == "__keras_tensor__":
            yield args["config"]["keras_history"][0]
    elif isinstance(args, list | tuple):
        for each in args:
            yield from _find_sources(each)
