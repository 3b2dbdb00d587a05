"""From a plan to Keras layers, all of them stock ones, so that Keras alone loads a saved model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import keras

from cerebros_spark.core.errors import ArgumentError
from nas.spaces.cerebros.plan import NetworkFuture, UnitFuture


def materialize(
    future: NetworkFuture,
    inputs: Sequence[Any],
    *,
    prefix: str = "",
    base_models: Mapping[int, keras.Model] | None = None,
    output_names: Sequence[str] | None = None,
) -> list[Any]:
    """Builds the layers of a plan on top of Keras tensors.

    Each unit merges what it reads, in the order of its edges, passes the merge through batch
    normalization or dropout where the plan has it, and ends in its Dense layer. A source that
    was picked several times is merged several times: concatenated, it gets weights for each
    copy; added, it weighs as many times as much in the sum, since a plan means the same wiring
    under either merge (batch normalization, the default, takes the growth of the sum out again).
    ``"add"`` adds the sources that agree in width and concatenates the sums.

    Initial weights and dropout masks come from Keras' global seed.

    Args:
        future: The plan.
        inputs: A Keras tensor for each input of the plan, with the batch dimension. One that is
            not flat is flattened; integers are cast to floats.
        prefix: What all layer names start with, for two networks in one graph.
        base_models: By input number, a model through which that input passes first (transfer
            learning). Its one output is flattened. The model itself becomes a layer, so its
            weights are shared with whoever else uses it.
        output_names: Names of the output Dense layers; by default they are named like the rest.

    Returns:
        One Keras tensor for each output of the plan.

    Raises:
        ArgumentError: The tensors don't fit the plan.
    """
    tensors = flat_inputs(inputs, prefix=prefix, base_models=base_models)
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
    return unit_layers(future, tensors, names, prefix=prefix)


def unit_layers(
    future: NetworkFuture,
    inputs: Sequence[Any],
    output_names: Sequence[str | None],
    *,
    prefix: str = "",
    layers: Any = keras.layers,
) -> list[Any]:
    """The units of a plan, on top of flat inputs that fit it.

    Args:
        future: The plan.
        inputs: A tensor for each input.
        output_names: Names of the output Dense layers; None for one that is named like the rest.
        prefix: What all layer names start with.
        layers: Where layers come from; what stands in for ``keras.layers`` may take other tensors.

    Returns:
        One tensor for each output.
    """
    return _Layers(future, prefix, inputs, layers).outputs(output_names)


def flat_inputs(
    inputs: Sequence[Any],
    *,
    prefix: str = "",
    base_models: Mapping[int, keras.Model] | None = None,
) -> list[Any]:
    """What the units read of the inputs: after the base models, flat, as floats.

    Takes and raises what :func:`materialize` does. Without layers to add, a tensor is returned
    as it is, so the result may be given to :func:`materialize` as its inputs.
    """
    bases = dict(base_models or {})
    unknown = sorted(set(bases) - set(range(len(inputs))))
    if unknown:
        raise ArgumentError(
            f"base_models names the inputs {unknown}, but there are {len(inputs)} inputs"
        )
    tensors = []
    for number, tensor in enumerate(inputs):
        name = f"{prefix}input{number}"
        if number in bases:
            tensor = _through_base(number, bases[number], tensor)
        tensors.append(_flat(name, tensor))
    return tensors


def _through_base(number: int, base: keras.Model, tensor: Any) -> Any:
    output = base(tensor)
    if isinstance(output, (list, tuple, dict)):
        raise ArgumentError(
            f"base_models[{number}] must have one output, but {base.name!r} has {len(output)}"
        )
    return output


def _flat(name: str, tensor: Any) -> Any:
    dtype = keras.backend.standardize_dtype(tensor.dtype)
    if dtype == "string":
        raise ArgumentError(f"{name} holds strings; put a base model in front that reads them")
    if "float" not in dtype:
        # A scale of 1 is the stock layer that casts.
        tensor = keras.layers.Rescaling(1.0, name=f"{name}_cast")(tensor)
    if len(tensor.shape) == 1:
        tensor = keras.layers.Reshape((1,), name=f"{name}_flatten")(tensor)
    elif len(tensor.shape) > 2:
        tensor = keras.layers.Flatten(name=f"{name}_flatten")(tensor)
    if tensor.shape[-1] is None:
        raise ArgumentError(f"{name} must have a known size, but its shape is {tensor.shape}")
    return tensor


class _Layers:
    """The layers of one plan, made from the inputs down."""

    def __init__(
        self, future: NetworkFuture, prefix: str, inputs: Sequence[Any], layers: Any
    ) -> None:
        self._future = future
        self._prefix = prefix
        self._layers = layers
        self._made: dict[tuple[int, int], Any] = {
            (0, number): tensor for number, tensor in enumerate(inputs)
        }

    def outputs(self, names: Sequence[str | None]) -> list[Any]:
        for level in self._future.hidden:
            for unit in level:
                self._made[unit.level, unit.number] = self._hidden(unit)
        return [
            self._output(unit, name) for unit, name in zip(self._future.outputs, names, strict=True)
        ]

    def _name(self, unit: UnitFuture, what: str) -> str:
        return f"{self._prefix}{unit.name}_{what}"

    def _hidden(self, unit: UnitFuture) -> Any:
        merged = self._merged(unit)
        if unit.kind == "dense":
            return self._dense(unit, self._name(unit, "dense"))(merged)
        axon = self._dense(unit, self._name(unit, "axon"))(merged)
        dendrites = [
            self._dense(unit, self._name(unit, f"dendrite{number}"))(axon)
            for number in range(unit.dendrites)
        ]
        return self._concatenate(dendrites, self._name(unit, "dendrites"))

    def _output(self, unit: UnitFuture, name: str | None) -> Any:
        merged = self._merged(unit)
        if unit.kind == "merge":
            return merged
        # In full precision whatever the policy: small probabilities vanish in half of it.
        dtype = keras.config.floatx()
        return self._dense(unit, name or self._name(unit, "dense"), dtype)(merged)

    def _dense(self, unit: UnitFuture, name: str, dtype: str | None = None) -> Any:
        return self._layers.Dense(unit.neurons, activation=unit.activation, name=name, dtype=dtype)

    def _merged(self, unit: UnitFuture) -> Any:
        sources = self._sources(unit)
        if self._future.merge == "add":
            sources = self._sums(unit, sources)
        return self._regularized(unit, self._concatenate(sources, self._name(unit, "concatenate")))

    def _sources(self, unit: UnitFuture) -> list[Any]:
        sources = []
        for number, edge in enumerate(unit.edges):
            source = self._made[edge.level, edge.unit]
            if edge.gated:
                source = self._layers.Activation(
                    self._future.gate_activation, name=self._name(unit, f"gate{number}")
                )(source)
            sources.append(source)
        return sources

    def _sums(self, unit: UnitFuture, sources: list[Any]) -> list[Any]:
        by_width: dict[int, list[Any]] = {}
        for source in sources:
            by_width.setdefault(source.shape[-1], []).append(source)
        return [
            self._layers.Add(name=self._name(unit, f"add{width}"))(same) if same[1:] else same[0]
            for width, same in by_width.items()
        ]

    def _regularized(self, unit: UnitFuture, tensor: Any) -> Any:
        kind = self._future.regularization
        name = self._name(unit, kind)
        if kind == "batch_normalization":
            momentum = self._future.batch_normalization_momentum
            return self._layers.BatchNormalization(momentum=momentum, name=name)(tensor)
        if kind == "dropout":
            return self._layers.Dropout(self._future.dropout_rate, name=name)(tensor)
        return tensor

    def _concatenate(self, tensors: list[Any], name: str) -> Any:
        if len(tensors) == 1:
            return tensors[0]
        return self._layers.Concatenate(name=name)(tensors)
