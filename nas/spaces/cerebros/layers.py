"""Builds a plan's layers. All are built-in Keras layers, so Keras alone can load a saved model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
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

    Each unit merges its sources in the order of its edges. Then follow batch normalization or
    dropout, if the plan has it, and the unit's Dense layer. A source with several edges to a unit
    is merged once per edge, so that a plan means the same wiring with either merge. With
    ``"concatenate"``, each copy has separate weights. ``"add"`` adds sources of equal width and
    concatenates the sums; a source with several edges is added once per edge.
    (Batch normalization, if used, scales the sum down.)

    Initial weights and dropout masks come from Keras' global seed.

    Args:
        future: Plan of the network.
        inputs: One Keras tensor per input; :func:`flatten_inputs` is applied to them.
        prefix: Prefix of all layer names.
        base_models: Models to apply to inputs first, by input index; None if there are none.
        output_names: Names of the output Dense layers; if None, default names are used.

    Returns:
        One Keras tensor of shape ``(rows, width)`` for each output.

    Raises:
        ArgumentError: If the widths of the flattened inputs, or the number of output names, differ
            from the plan.
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
    """Build the units of a plan on top of flat inputs of the planned widths; return the outputs.

    ``layers`` is ``keras.layers``, or an object that provides the same layer classes for tensors of
    another kind, such as :class:`~.serialization.LayerRecorder`.
    """
    tensors = {(0, number): tensor for number, tensor in enumerate(inputs)}
    return _UnitBuilder(future, prefix, layers, tensors).build(output_names)


def flatten_inputs(
    inputs: Sequence[Any], *, prefix: str = "", base_models: Mapping[int, keras.Model] | None = None
) -> list[Any]:
    """Apply base models to the inputs, and flatten each result to one float vector per row.

    ``base_models`` contains models by input index. A base model becomes a layer of the network and
    shares its weights with it (transfer learning). An input that is already flat, of a float dtype,
    and without a base model is returned unchanged.
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
    """Raise ArgumentError if a key of ``base_models`` is not the index of one of the inputs."""
    unknown = sorted(set(base_models) - set(range(count)))
    if unknown:
        raise ArgumentError(f"base_models names the inputs {unknown}, but there are {count} inputs")


def _flatten(name: str, tensor: Any) -> Any:
    dtype = keras.backend.standardize_dtype(tensor.dtype)
    if dtype == "string":
        raise ArgumentError(f"{name} holds strings; add a base model that reads them")
    if "float" not in dtype:
        # Rescaling by 1 is a built-in layer that casts.
        tensor = keras.layers.Rescaling(1.0, name=f"{name}_cast")(tensor)
    if len(tensor.shape) == 1:
        tensor = keras.layers.Reshape((1,), name=f"{name}_flatten")(tensor)
    elif len(tensor.shape) > 2:
        tensor = keras.layers.Flatten(name=f"{name}_flatten")(tensor)
    if tensor.shape[-1] is None:
        raise ArgumentError(f"{name} must have a known size, but its shape is {tensor.shape}")
    return tensor


@dataclass(frozen=True)
class _UnitBuilder:
    """Builds the Keras layers of a plan's units, level by level from the inputs."""

    future: NetworkFuture
    prefix: str
    layers: Any
    tensors: dict[tuple[int, int], Any]  # outputs, by level and number of the unit

    def build(self, output_names: Sequence[str | None]) -> list[Any]:
        for level in self.future.hidden:
            for unit in level:
                self.tensors[unit.level, unit.number] = self._build_hidden(unit)
        outputs = zip(self.future.outputs, output_names, strict=True)
        return [self._build_output(unit, name) for unit, name in outputs]

    def _name(self, unit: UnitFuture, suffix: str) -> str:
        return f"{self.prefix}{unit.name}_{suffix}"

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
        return self.layers.Dense(
            units=unit.neurons, activation=unit.activation, name=name, dtype=dtype
        )

    def _merge(self, unit: UnitFuture) -> Any:
        sources = self._gate_sources(unit)
        if self.future.merge == "add":
            sources = self._add_by_width(unit, sources)
        merged = self._concatenate(sources, self._name(unit, "concatenate"))
        return self._regularize(unit, merged)

    def _gate_sources(self, unit: UnitFuture) -> list[Any]:
        sources = []
        for number, edge in enumerate(unit.edges):
            source = self.tensors[edge.level, edge.unit]
            if edge.gated:
                name = self._name(unit, f"gate{number}")
                activation = self.future.gate_activation
                source = self.layers.Activation(activation=activation, name=name)(source)
            sources.append(source)
        return sources

    def _add_by_width(self, unit: UnitFuture, sources: list[Any]) -> list[Any]:
        by_width: dict[int, list[Any]] = {}
        for source in sources:
            by_width.setdefault(source.shape[-1], []).append(source)
        return [
            self.layers.Add(name=self._name(unit, f"add{width}"))(same) if same[1:] else same[0]
            for width, same in by_width.items()
        ]

    def _regularize(self, unit: UnitFuture, tensor: Any) -> Any:
        kind = self.future.regularization
        name = self._name(unit, kind)
        if kind == "batch_normalization":
            momentum = self.future.batch_normalization_momentum
            return self.layers.BatchNormalization(momentum=momentum, name=name)(tensor)
        if kind == "dropout":
            return self.layers.Dropout(self.future.dropout_rate, name=name)(tensor)
        return tensor

    def _concatenate(self, tensors: list[Any], name: str) -> Any:
        return tensors[0] if len(tensors) == 1 else self.layers.Concatenate(name=name)(tensors)
