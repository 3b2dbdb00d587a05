"""Keras layers from a plan. All are built-in ones, so that Keras alone loads a saved model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import keras

from cerebros_spark.core.errors import ArgumentError
from nas.spaces.cerebros.plan import NetworkFuture, UnitFuture


def build_layers(
    future: NetworkFuture,
    inputs: Sequence[Any],
    *,
    prefix: str = "",
    base_models: Mapping[int, keras.Model] | None = None,
    output_names: Sequence[str] | None = None,
) -> list[Any]:
    """Build the layers of a plan on top of Keras tensors.

    Each unit merges its sources in the order of its edges, then applies batch normalization or
    dropout if the plan has it, and ends in its Dense layer. A source that was picked several times
    is merged several times: concatenated, each copy has its own weights; added, it counts several
    times in the sum, so that a plan means the same wiring under either merge. (Batch
    normalization, the default, reduces the sum again.) ``"add"`` adds the sources of the same
    width and concatenates the sums.

    Initial weights and dropout masks come from Keras' global seed.

    Args:
        future: The plan.
        inputs: A Keras tensor for each input of the plan, with the batch dimension. Rows that are
            not vectors are flattened; integers are cast to floats.
        prefix: Prefix of all layer names, for two networks in one graph.
        base_models: By input number, a model through which that input passes first (transfer
            learning). Its one output is flattened. The model becomes a layer and shares its
            weights.
        output_names: Names of the output Dense layers; by default they are named as the others.

    Returns:
        One Keras tensor for each output of the plan.

    Raises:
        ArgumentError: If the tensors do not fit the plan.
    """
    tensors = flatten_inputs(inputs, prefix=prefix, base_models=base_models)
    widths = [tensor.shape[-1] for tensor in tensors]
    planned = [unit.neurons for unit in future.inputs]
    if widths != planned:
        raise ArgumentError(
            f"the inputs must be as wide as planned, but got (widths={widths}, planned={planned})"
        )
    names = list(output_names) if output_names is not None else [None] * len(future.outputs)
    if len(names) != len(future.outputs):
        raise ArgumentError(
            f"output_names must hold {len(future.outputs)} names, but got {output_names!r}"
        )
    return build_units(future, tensors, names, prefix=prefix)


def build_units(
    future: NetworkFuture,
    inputs: Sequence[Any],
    output_names: Sequence[str | None],
    *,
    prefix: str = "",
    layers: Any = keras.layers,
) -> list[Any]:
    """Build the units of a plan on top of flat inputs that fit it.

    Args:
        future: The plan.
        inputs: A tensor for each input.
        output_names: Names of the output Dense layers; None for the default name.
        prefix: Prefix of all layer names.
        layers: ``keras.layers``, or an object with its classes for other kinds of tensors.

    Returns:
        One tensor for each output.
    """
    return _UnitBuilder(future, prefix, inputs, layers).build(output_names)


def flatten_inputs(
    inputs: Sequence[Any],
    *,
    prefix: str = "",
    base_models: Mapping[int, keras.Model] | None = None,
) -> list[Any]:
    """Return the inputs as the units read them: after the base models, flat, as floats.

    Arguments and errors are those of :func:`build_layers`. A flat float tensor is returned
    unchanged, so the result may be passed to :func:`build_layers`.
    """
    base_models = base_models or {}
    check_base_models(base_models, len(inputs))
    tensors = []
    for number, tensor in enumerate(inputs):
        if number in base_models:
            base = base_models[number]
            tensor = base(tensor)
            if isinstance(tensor, list | tuple | dict):
                raise ArgumentError(
                    f"base_models[{number}] must have one output, but {base.name!r} has "
                    f"{len(tensor)}"
                )
        tensors.append(_flatten(f"{prefix}input{number}", tensor))
    return tensors


def check_base_models(base_models: Mapping[int, keras.Model], count: int) -> None:
    """Raise ArgumentError if a base model is for an input beyond ``count``."""
    unknown = sorted(set(base_models) - set(range(count)))
    if unknown:
        raise ArgumentError(f"base_models names the inputs {unknown}, but there are {count} inputs")


def _flatten(name: str, tensor: Any) -> Any:
    dtype = keras.backend.standardize_dtype(tensor.dtype)
    if dtype == "string":
        raise ArgumentError(f"{name} holds strings; put a base model in front that reads them")
    if "float" not in dtype:
        # Rescaling by 1 is the built-in layer that casts.
        tensor = keras.layers.Rescaling(1.0, name=f"{name}_cast")(tensor)
    if len(tensor.shape) == 1:
        tensor = keras.layers.Reshape((1,), name=f"{name}_flatten")(tensor)
    elif len(tensor.shape) > 2:
        tensor = keras.layers.Flatten(name=f"{name}_flatten")(tensor)
    if tensor.shape[-1] is None:
        raise ArgumentError(f"{name} must have a known size, but its shape is {tensor.shape}")
    return tensor


class _UnitBuilder:
    """Builds the units of one plan, from the inputs down."""

    def __init__(
        self, future: NetworkFuture, prefix: str, inputs: Sequence[Any], layers: Any
    ) -> None:
        self._future = future
        self._prefix = prefix
        self._layers = layers
        self._tensors: dict[tuple[int, int], Any] = {
            (0, number): tensor for number, tensor in enumerate(inputs)
        }

    def build(self, output_names: Sequence[str | None]) -> list[Any]:
        for level in self._future.hidden:
            for unit in level:
                self._tensors[unit.level, unit.number] = self._build_hidden(unit)
        outputs = zip(self._future.outputs, output_names, strict=True)
        return [self._build_output(unit, name) for unit, name in outputs]

    def _name(self, unit: UnitFuture, suffix: str) -> str:
        return f"{self._prefix}{unit.name}_{suffix}"

    def _build_hidden(self, unit: UnitFuture) -> Any:
        merged = self._merge(unit)
        if unit.kind == "dense":
            return self._dense(unit, self._name(unit, "dense"))(merged)
        axon = self._dense(unit, self._name(unit, "axon"))(merged)
        dendrites = [
            self._dense(unit, self._name(unit, f"dendrite{number}"))(axon)
            for number in range(unit.dendrites)
        ]
        return self._concatenate(dendrites, self._name(unit, "dendrites"))

    def _build_output(self, unit: UnitFuture, name: str | None) -> Any:
        merged = self._merge(unit)
        if unit.kind == "merge":
            return merged
        # Full precision under any policy: small probabilities vanish in half precision.
        dtype = keras.config.floatx()
        return self._dense(unit, name or self._name(unit, "dense"), dtype)(merged)

    def _dense(self, unit: UnitFuture, name: str, dtype: str | None = None) -> Any:
        return self._layers.Dense(
            units=unit.neurons, activation=unit.activation, name=name, dtype=dtype
        )

    def _merge(self, unit: UnitFuture) -> Any:
        sources = self._gate_sources(unit)
        if self._future.merge == "add":
            sources = self._add_by_width(unit, sources)
        merged = self._concatenate(sources, self._name(unit, "concatenate"))
        return self._regularize(unit, merged)

    def _gate_sources(self, unit: UnitFuture) -> list[Any]:
        sources = []
        for number, edge in enumerate(unit.edges):
            source = self._tensors[edge.level, edge.unit]
            if edge.gated:
                name = self._name(unit, f"gate{number}")
                activation = self._future.gate_activation
                source = self._layers.Activation(activation=activation, name=name)(source)
            sources.append(source)
        return sources

    def _add_by_width(self, unit: UnitFuture, sources: list[Any]) -> list[Any]:
        by_width: dict[int, list[Any]] = {}
        for source in sources:
            by_width.setdefault(source.shape[-1], []).append(source)
        return [
            self._layers.Add(name=self._name(unit, f"add{width}"))(same) if same[1:] else same[0]
            for width, same in by_width.items()
        ]

    def _regularize(self, unit: UnitFuture, tensor: Any) -> Any:
        kind = self._future.regularization
        name = self._name(unit, kind)
        if kind == "batch_normalization":
            momentum = self._future.batch_normalization_momentum
            return self._layers.BatchNormalization(momentum=momentum, name=name)(tensor)
        if kind == "dropout":
            return self._layers.Dropout(self._future.dropout_rate, name=name)(tensor)
        return tensor

    def _concatenate(self, tensors: list[Any], name: str) -> Any:
        return tensors[0] if len(tensors) == 1 else self._layers.Concatenate(name=name)(tensors)
