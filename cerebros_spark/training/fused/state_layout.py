"""A trial's state as one vector in the padded shape, and back to Keras' order."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import keras
import numpy as np
import tensorflow as tf

from cerebros_spark.training.fused.graph.network import GroupConfig, Network
from cerebros_spark.training.fused.graph.padding import (
    PaddedShape,
    Placement,
    place_hidden_units,
    place_outputs,
)
from cerebros_spark.training.fused.graph.wiring import encode_wiring
from cerebros_spark.training.fused.optimizer_rules import UpdateRule, get_update_rule
from cerebros_spark.training.keras import checkpoint

_MOVING = ("moving_mean", "moving_variance")

#: Tensors by name, and those of each optimizer slot by the slot's name.
_Tensors = dict[str, Any]
_Slots = dict[str, dict[str, Any]]


class VectorLayout:
    """Layout of a state's vector: trained weights, optimizer slots, moving statistics.

    The shapes, with a prefix ``output_`` for the outputs: ``kernel (neurons, slots)``, ``bias
    (units, neurons)``, and with normalization ``gamma``, ``beta``, ``moving_mean`` and
    ``moving_variance`` ``(slots,)``.

    Args:
        config: What the networks share.
        shape: Their padded shape.
        slots: Names of the optimizer's slots.
    """

    def __init__(self, config: GroupConfig, shape: PaddedShape, slots: Sequence[str]) -> None:
        self.slots = tuple(slots)
        self.trained: dict[str, tuple[int, ...]] = {}
        self.moving: dict[str, tuple[int, ...]] = {}
        for prefix, many, width, units in (
            ("", shape.slots, shape.neurons, shape.units),
            ("output_", shape.output_slots, max(shape.outputs), len(shape.outputs)),
        ):
            self.trained[f"{prefix}kernel"] = (width, many)
            self.trained[f"{prefix}bias"] = (units, width)
            if config.normalization is not None:
                self.trained.update({f"{prefix}{name}": (many,) for name in ("gamma", "beta")})
                self.moving.update({f"{prefix}{name}": (many,) for name in _MOVING})
        self.trained_size = sum(math.prod(size) for size in self.trained.values())
        self.moving_size = sum(math.prod(size) for size in self.moving.values())

    @property
    def size(self) -> int:
        """Length of the vector."""
        return self.trained_size * (1 + len(self.slots)) + self.moving_size

    def start(self, name: str, slot: str | None = None) -> int:
        """Return the first index of a weight, or of its slot."""
        if name in self.moving:
            first, parts = self.trained_size * (1 + len(self.slots)), self.moving
        else:
            first = 0 if slot is None else self.trained_size * (1 + self.slots.index(slot))
            parts = self.trained
        for other, size in parts.items():
            if other == name:
                return first
            first += math.prod(size)
        raise KeyError(name)

    def split(self, vector: Any) -> tuple[_Tensors, _Slots, _Tensors]:
        """Return the weights, their slots and the moving statistics of a vector ``(size,)``."""

        def parts(sizes: dict[str, tuple[int, ...]], first: int) -> _Tensors:
            tensors = {}
            for name, size in sizes.items():
                many = math.prod(size)
                tensors[name] = tf.reshape(vector[first : first + many], size)
                first += many
            return tensors

        slots = {
            slot: parts(self.trained, self.trained_size * place)
            for place, slot in enumerate(self.slots, start=1)
        }
        last = self.trained_size * (1 + len(self.slots))
        return parts(self.trained, 0), slots, parts(self.moving, last)

    def join(self, weights: _Tensors, slots: _Slots, moving: _Tensors) -> Any:
        """Return the vector ``(size,)`` of what :meth:`split` returned."""
        parts = [weights[name] for name in self.trained]
        parts += [slots[slot][name] for slot in self.slots for name in self.trained]
        parts += [moving[name] for name in self.moving]
        return tf.concat([tf.reshape(part, [-1]) for part in parts], axis=0)


def pack_initial_state(
    weights: Sequence[np.ndarray], trainable: Sequence[bool], optimizer: Mapping[str, Any]
) -> bytes:
    """Return the state of a network before its first step, as ``checkpoint.get_initial_state``.

    Args:
        weights: Its weights in Keras' order.
        trainable: Whether each of them is trained.
        optimizer: The optimizer, serialized.

    Raises:
        UnsupportedNetworkError: If there is no rule for the optimizer.
    """
    rate = optimizer["config"]["learning_rate"]
    number = rate if isinstance(rate, int | float) else None
    values = _list_initial_values(weights, trainable, get_update_rule(optimizer), number)
    return checkpoint.pack(values, checkpoint.compute_layout(values))


def _list_initial_values(
    weights: Sequence[np.ndarray], trainable: Sequence[bool], rule: UpdateRule, rate: float | None
) -> list[np.ndarray]:
    """Return a state's variables before the first step, in Keras' order."""
    values = [*weights, np.asarray(0, "int64")]
    if rate is not None:
        values.append(np.asarray(rate, keras.config.floatx()))
    trained = list(itertools.compress(weights, trainable))
    for group in rule.slots:
        values += [np.zeros_like(weight) for weight in trained for _ in group]
    return values


@dataclass(frozen=True)
class UnpackedState:
    """A state as arrays.

    Attributes:
        flats: All variables in Keras' order, concatenated by dtype.
        iterations: Number of the optimizer's steps.
        learning_rate: The learning rate; 0 if a schedule gives it.
    """

    flats: Mapping[str, np.ndarray]
    iterations: int
    learning_rate: float


class StepLayout(Protocol):
    """The attributes of a compiled step that a map of states needs."""

    shape: PaddedShape
    layout: VectorLayout
    inference_layout: VectorLayout
    rule: UpdateRule
    schedule: Any


#: Positions in a vector ``(length,) int64``, for each contiguous run in Keras' order.
_Runs = Sequence[tuple[slice, np.ndarray]]


class StateMap:
    """Conversion between the states of one network and vectors.

    Args:
        config: What the networks share.
        network: The network.
        step: What trains it, in a shape that covers it.
    """

    def __init__(self, config: GroupConfig, network: Network, step: StepLayout) -> None:
        shape, rule = step.shape, step.rule
        scheduled, floatx = step.schedule is not None, keras.config.floatx()
        self._dtype = config.dtype
        hidden, output = place_hidden_units(shape, network), place_outputs(shape, network)
        #: The encoded wiring, ``(size,) int32``.
        self.wiring = encode_wiring(hidden, output, len(network.hidden), shape.merge)
        weights = [np.empty(v.shape, v.dtype or self._dtype) for v in network.variables]
        trainable = [v.trainable for v in network.variables]
        values = _list_initial_values(weights, trainable, rule, None if scheduled else 0.0)
        self._dtypes = checkpoint.get_dtypes(values)
        self._layout = checkpoint.compute_layout(values)
        self._iterations = _offsets(values, "int64")[len(network.variables)]
        self._rate = None
        if not scheduled:
            self._rate = floatx, _offsets(values, floatx)[len(network.variables) + 1]
        offsets = _offsets(values, self._dtype)
        first = len(network.variables) + (1 if scheduled else 2)
        starts = {(v.layer, v.role): offsets[i] for i, v in enumerate(network.variables)}
        by_slot: dict[str | None, dict[tuple[str, str], int]] = {None: starts}
        for group in rule.slots:
            for variable in itertools.compress(network.variables, trainable):
                for name in group:
                    by_slot.setdefault(name, {})[variable.layer, variable.role] = offsets[first]
                    first += 1
        layout, inference_layout = step.layout, step.inference_layout
        pairs = list(_pair_positions(network, shape, layout, hidden, output, by_slot))
        positions = np.concatenate([position for position, _ in pairs])
        keras_positions = np.concatenate([position for _, position in pairs])
        # Keras' order has few gaps, so one of the two sides is copied in whole runs.
        in_order = np.argsort(keras_positions)
        positions, keras_positions = positions[in_order], keras_positions[in_order]
        self._runs = _runs(positions, keras_positions)
        slots_size = layout.size - inference_layout.size
        is_moving = positions >= layout.trained_size + slots_size
        wanted = is_moving | (positions < layout.trained_size)
        self._inference_runs = _runs(
            (positions - slots_size * is_moving)[wanted], keras_positions[wanted]
        )

    def unpack(self, data: bytes) -> UnpackedState:
        """Return the arrays of a state.

        Raises:
            StoreError: If the bytes are no state of this network.
        """
        flats = checkpoint.unpack_flat(data, self._dtypes, self._layout)
        rate = 0.0
        if self._rate is not None:
            dtype, position = self._rate
            rate = float(flats[dtype][position])
        return UnpackedState(flats, int(flats["int64"][self._iterations]), rate)

    def pack(self, state: UnpackedState) -> bytes:
        """Return the bytes of a state."""
        return checkpoint.pack_flat(state.flats, self._layout)

    def write(self, state: UnpackedState, vector: np.ndarray) -> None:
        """Write weights, slots and statistics into a training vector ``(size,)``."""
        self._write(state, vector, self._runs)

    def write_for_inference(self, state: UnpackedState, vector: np.ndarray) -> None:
        """Write weights and statistics into an inference vector ``(size,)``."""
        self._write(state, vector, self._inference_runs)

    def read(self, before: UnpackedState, vector: np.ndarray, steps: int) -> UnpackedState:
        """Return the state after some steps, from a training vector ``(size,)``.

        Values that no vector holds stay as before.
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


def _runs(positions: np.ndarray, keras_positions: np.ndarray) -> _Runs:
    """Split positions by the contiguous runs of ascending positions in Keras' order."""
    gaps = np.flatnonzero(np.diff(keras_positions) != 1) + 1
    return [
        (slice(int(first), int(first) + len(part)), part)
        for first, part in zip(keras_positions[[0, *gaps]], np.split(positions, gaps), strict=True)
    ]


def _offsets(like: Sequence[np.ndarray], dtype: str) -> list[int]:
    """Return the first index of each variable among those of a dtype; undefined for the others."""
    wanted = np.dtype(dtype)
    sizes = [value.size if value.dtype == wanted else 0 for value in like]
    return [0, *np.cumsum(sizes)[:-1].tolist()]


def _pair_positions(
    network: Network,
    shape: PaddedShape,
    layout: VectorLayout,
    hidden: Placement,
    output: Placement,
    by_slot: dict[str | None, dict[tuple[str, str], int]],
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield positions of values in the vector, with those in Keras' order."""
    for prefix, units, placement, width in (
        ("", network.hidden, hidden, shape.neurons),
        ("output_", network.outputs, output, max(shape.outputs)),
    ):
        merged = list(map(network.merged_width, units))
        slots = np.split(placement.slots, np.cumsum(merged)[:-1])
        for number, (unit, positions, many) in enumerate(zip(units, slots, merged, strict=True)):
            for slot, starts in by_slot.items():
                neurons = np.arange(unit.width)
                copies = np.arange(many)
                first = layout.start(f"{prefix}kernel", slot)
                here = first + positions[:, None] + len(placement.occupied) * neurons
                there = starts[unit.dense, "kernel"] + copies[:, None] * unit.width + neurons
                yield here.ravel(), there.ravel()
                first = layout.start(f"{prefix}bias", slot)
                yield first + number * width + neurons, starts[unit.dense, "bias"] + neurons
                roles = ["gamma", "beta", *(_MOVING if slot is None else ())]
                for role in roles if unit.normalization else ():
                    first = layout.start(f"{prefix}{role}", slot)
                    yield first + positions, starts[unit.normalization, role] + copies
