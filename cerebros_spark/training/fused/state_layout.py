"""Conversion of model states, in Keras' order, to state vectors in a padded shape and back."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import keras
import numpy as np
import tensorflow as tf

from cerebros_spark.training.fused.graph.network import GroupConfig, Network
from cerebros_spark.training.fused.graph.padding import PaddedShape, Placement, place_units
from cerebros_spark.training.fused.graph.wiring import encode_wiring
from cerebros_spark.training.fused.optimizer_rules import UpdateRule, get_update_rule
from cerebros_spark.training.keras import checkpoint

if TYPE_CHECKING:
    from cerebros_spark.training.fused.compiled_step import CompiledStep

_MOVING = ("moving_mean", "moving_variance")

#: Tensors by name, as in ``elementwise.Tensors``; and such dicts by optimizer slot name.
_Tensors = dict[str, Any]
_Slots = dict[str, dict[str, Any]]


class VectorLayout:
    """Layout of a state vector: trained weights, optimizer slots and moving statistics.

    ``elementwise.Tensors`` documents their names and shapes. ``slots`` names the optimizer
    slots; it is empty for inference.
    """

    def __init__(self, config: GroupConfig, shape: PaddedShape, slots: Sequence[str]) -> None:
        self.slots = tuple(slots)
        self._trained: dict[str, tuple[int, ...]] = {}
        self._moving: dict[str, tuple[int, ...]] = {}
        for grid in shape.grids:
            self._trained[f"{grid.prefix}kernel"] = (grid.neurons, grid.slots)
            self._trained[f"{grid.prefix}bias"] = (grid.units, grid.neurons)
            if config.normalization is not None:
                for name in ("gamma", "beta"):
                    self._trained[f"{grid.prefix}{name}"] = (grid.slots,)
                for name in _MOVING:
                    self._moving[f"{grid.prefix}{name}"] = (grid.slots,)
        trained = [(slot, name) for slot in (None, *self.slots) for name in self._trained]
        sizes = {**self._trained, **self._moving}
        self._starts: dict[tuple[str | None, str], int] = {}
        self.size = 0
        for slot, name in [*trained, *((None, name) for name in self._moving)]:
            self._starts[slot, name] = self.size
            self.size += math.prod(sizes[name])
        self.trained_size = sum(map(math.prod, self._trained.values()))

    def start(self, name: str, slot: str | None = None) -> int:
        """Return the first index of a weight or moving statistic in the vector.

        If ``slot`` names an optimizer slot, return the first index of the weight's optimizer slot
        instead.
        """
        return self._starts[slot, name]

    def split(self, vector: Any) -> tuple[_Tensors, _Slots, _Tensors]:
        """Split a vector ``(size,)`` into named weights, optimizer slots and moving statistics."""

        def parts(sizes: dict[str, tuple[int, ...]], slot: str | None = None) -> _Tensors:
            tensors = {}
            for name, size in sizes.items():
                first = self._starts[slot, name]
                tensors[name] = tf.reshape(vector[first : first + math.prod(size)], size)
            return tensors

        slots = {slot: parts(self._trained, slot) for slot in self.slots}
        return parts(self._trained), slots, parts(self._moving)

    def join(self, weights: _Tensors, slots: _Slots, moving: _Tensors) -> Any:
        """Join weights, optimizer slots and moving statistics into a vector ``(size,)``."""
        parts = [weights[name] for name in self._trained]
        parts += [slots[slot][name] for slot in self.slots for name in self._trained]
        parts += [moving[name] for name in self._moving]
        return tf.concat([tf.reshape(part, [-1]) for part in parts], axis=0)


def pack_initial_state(
    weights: Sequence[np.ndarray], trainable: Sequence[bool], optimizer: Mapping[str, Any]
) -> bytes:
    """Serialize a network's state before its first step.

    The result has the same format as that of ``checkpoint.get_initial_state``.

    Args:
        weights: Weights of the network, in Keras' order and shapes.
        trainable: For each weight, whether it is trained.
        optimizer: Optimizer, as serialized by Keras.

    Raises:
        NotFusableError: If there is no update rule for the optimizer.
    """
    rate = optimizer["config"]["learning_rate"]
    number = rate if isinstance(rate, int | float) else None
    values = _list_initial_values(weights, trainable, get_update_rule(optimizer), number)
    return checkpoint.pack(values, checkpoint.compute_layout(values))


def _list_initial_values(
    weights: Sequence[np.ndarray], trainable: Sequence[bool], rule: UpdateRule, rate: float | None
) -> list[np.ndarray]:
    """Return a state's initial variables in Keras' order; ``rate`` is None if scheduled."""
    values = [*weights, np.asarray(0, "int64")]
    if rate is not None:
        values.append(np.asarray(rate, keras.config.floatx()))
    trained = list(itertools.compress(weights, trainable))
    for group in rule.slots:
        values += [np.zeros_like(weight) for weight in trained for _ in group]
    return values


@dataclass(frozen=True)
class UnpackedState:
    """Model state as one array per dtype, with the optimizer's step count and learning rate."""

    flats: Mapping[str, np.ndarray]  # by dtype, (length,): its variables in Keras' order
    iterations: int  # number of steps that the optimizer has taken
    learning_rate: float  # 0 if a schedule determines it


#: Contiguous slices in Keras' order, each with its positions in a vector, ``(length,) int64``.
_Runs = Sequence[tuple[slice, np.ndarray]]


class StateMap:
    """Map between one network's model states and state vectors in the padded shape of a step."""

    def __init__(self, config: GroupConfig, network: Network, step: CompiledStep) -> None:
        scheduled, floatx = step.is_scheduled, keras.config.floatx()
        self._dtype = config.dtype
        placements = place_units(step.shape, network)
        #: Encoded wiring of the network, ``(size,) int32``.
        self.wiring = encode_wiring(placements, len(network.hidden), step.shape.merge)
        weights = [np.empty(v.shape, v.dtype or self._dtype) for v in network.variables]
        trainable = [v.trainable for v in network.variables]
        values = _list_initial_values(weights, trainable, step.rule, None if scheduled else 0.0)
        self._dtypes = checkpoint.get_dtypes(values)
        self._layout = checkpoint.compute_layout(values)
        self._iterations = _compute_offsets(values, "int64")[len(weights)]
        self._rate = (
            None if scheduled else (floatx, _compute_offsets(values, floatx)[len(weights) + 1])
        )
        offsets = iter(_compute_offsets(values, self._dtype))
        starts: dict[str | None, dict[tuple[str, str], int]] = {}
        starts[None] = {(v.layer, v.role): next(offsets) for v in network.variables}
        for _ in range(1 if scheduled else 2):  # skip the iterations and the learning rate
            next(offsets)
        for group in step.rule.slots:
            for variable in itertools.compress(network.variables, trainable):
                for name in group:
                    starts.setdefault(name, {})[variable.layer, variable.role] = next(offsets)
        pairs = list(_pair_positions(network, step.shape, step.layout, placements, starts))
        positions, keras_positions = (np.concatenate(each) for each in zip(*pairs, strict=True))
        # Keras' order has few gaps, so that side is copied in whole runs.
        in_order = np.argsort(keras_positions)
        positions, keras_positions = positions[in_order], keras_positions[in_order]
        self._runs = _split_runs(positions, keras_positions)
        trained = step.layout.trained_size
        slots_size = step.layout.size - step.inference_layout.size
        is_moving = positions >= trained + slots_size
        wanted = is_moving | (positions < trained)
        positions = positions - slots_size * is_moving
        self._inference_runs = _split_runs(positions[wanted], keras_positions[wanted])

    def unpack(self, data: bytes) -> UnpackedState:
        """Unpack the bytes of a model state.

        Raises:
            StoreError: If the bytes are not a state of this network.
        """
        flats = checkpoint.unpack_flat(data, self._dtypes, self._layout)
        rate = 0.0
        if self._rate is not None:
            dtype, position = self._rate
            rate = float(flats[dtype][position])
        return UnpackedState(flats, int(flats["int64"][self._iterations]), rate)

    def pack(self, state: UnpackedState) -> bytes:
        """Pack a model state into bytes."""
        return checkpoint.pack_flat(state.flats, self._layout)

    def write(self, state: UnpackedState, vector: np.ndarray) -> None:
        """Write a state to a training vector ``(size,)``, and zeros to its padding."""
        self._write(state, vector, self._runs)

    def write_for_inference(self, state: UnpackedState, vector: np.ndarray) -> None:
        """Write a state without optimizer slots to an inference vector ``(size,)``."""
        self._write(state, vector, self._inference_runs)

    def read(self, before: UnpackedState, vector: np.ndarray, steps: int) -> UnpackedState:
        """Return the state in a training vector ``(size,)``, ``steps`` steps after ``before``.

        Values that the vector does not contain, such as the learning rate, are those of ``before``.
        """
        weights = before.flats[self._dtype].copy()
        for run, positions in self._runs:
            np.take(vector, positions, out=weights[run], mode="clip")  # unchecked: twice as fast
        integers = before.flats["int64"].copy()
        iterations = before.iterations + steps
        integers[self._iterations] = iterations
        flats = {**before.flats, self._dtype: weights, "int64": integers}
        return UnpackedState(flats, iterations, before.learning_rate)

    def _write(self, state: UnpackedState, vector: np.ndarray, runs: _Runs) -> None:
        weights = state.flats[self._dtype]
        vector[:] = 0
        for run, positions in runs:
            vector[positions] = weights[run]


def _split_runs(positions: np.ndarray, keras_positions: np.ndarray) -> _Runs:
    """Split ``positions`` where ``keras_positions`` has gaps; both are ``(length,)``."""
    gaps = np.flatnonzero(np.diff(keras_positions) != 1) + 1
    firsts = keras_positions[[0, *gaps]].tolist()
    parts = np.split(positions, gaps)
    return [(slice(n, n + len(part)), part) for n, part in zip(firsts, parts, strict=True)]


def _compute_offsets(like: Sequence[np.ndarray], dtype: str) -> list[int]:
    """Return each variable's first index in the flat array of all variables with ``dtype``.

    The index of a variable with another dtype has no meaning.
    """
    wanted = np.dtype(dtype)
    sizes = [value.size if value.dtype == wanted else 0 for value in like]
    return [0, *np.cumsum(sizes)[:-1].tolist()]


def _pair_positions(
    network: Network,
    shape: PaddedShape,
    layout: VectorLayout,
    placements: Sequence[Placement],
    starts: Mapping[str | None, Mapping[tuple[str, str], int]],
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield matching positions in the vector and in Keras' order, each ``(length,) int64``."""
    all_units = (network.hidden, network.outputs)
    for units, grid, placement in zip(all_units, shape.grids, placements, strict=True):
        merged = list(map(network.merged_width, units))
        slots = np.split(placement.slots, np.cumsum(merged)[:-1])
        for number, (unit, positions, many) in enumerate(zip(units, slots, merged, strict=True)):
            neurons, copies = np.arange(unit.width), np.arange(many)
            for slot, slot_starts in starts.items():
                first = layout.start(f"{grid.prefix}kernel", slot)
                here = first + positions[:, None] + grid.slots * neurons
                first = slot_starts[unit.dense, "kernel"]
                yield here.ravel(), (first + copies[:, None] * unit.width + neurons).ravel()
                first = layout.start(f"{grid.prefix}bias", slot) + number * grid.neurons
                yield first + neurons, slot_starts[unit.dense, "bias"] + neurons
                roles = ["gamma", "beta", *(_MOVING if slot is None else ())]
                for role in roles if unit.normalization else ():
                    first = layout.start(f"{grid.prefix}{role}", slot)
                    yield first + positions, slot_starts[unit.normalization, role] + copies
