"""A trial's state as one vector in the group's shape, and back to Keras' order."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import keras
import numpy as np

from cerebros_spark.training.fused.graph.network import Network, Recipe
from cerebros_spark.training.fused.graph.padding import (
    Bank,
    MergedBank,
    Shape,
    hidden_bank,
    output_bank,
)
from cerebros_spark.training.fused.graph.wiring import numbers
from cerebros_spark.training.fused.optimizer_rules import Rule, rule
from cerebros_spark.training.keras import checkpoint

_MOVING = ("moving_mean", "moving_variance")


class Sections:
    """The parts of a vector: the trained weights, what is kept of each, the moving statistics.

    Args:
        recipe: What the networks have in common.
        shape: Their shape.
        slots: Names of what the optimizer keeps of each weight.
    """

    def __init__(self, recipe: Recipe, shape: Shape, slots: Sequence[str]) -> None:
        self.slots = tuple(slots)
        self.trained: dict[str, tuple[int, ...]] = {}
        self.moving: dict[str, tuple[int, ...]] = {}
        banks = (
            ("", shape.slots, shape.neurons, shape.units),
            ("output_", shape.output_slots, max(shape.outputs), len(shape.outputs)),
        )
        for prefix, many, width, units in banks:
            self.trained[f"{prefix}kernel"] = (width, many)
            self.trained[f"{prefix}bias"] = (units, width)
            if recipe.normalization is not None:
                self.trained.update({f"{prefix}{name}": (many,) for name in ("gamma", "beta")})
                self.moving.update({f"{prefix}{name}": (many,) for name in _MOVING})
        self.size_trained = sum(math.prod(size) for size in self.trained.values())
        self.size_moving = sum(math.prod(size) for size in self.moving.values())

    @property
    def size(self) -> int:
        """Length of the vector."""
        return self.size_trained * (1 + len(self.slots)) + self.size_moving

    def start(self, name: str, slot: str | None = None) -> int:
        """Where a part begins."""
        first = 0
        if name in self.moving:
            first = self.size_trained * (1 + len(self.slots))
            parts = self.moving
        else:
            first = 0 if slot is None else self.size_trained * (1 + self.slots.index(slot))
            parts = self.trained
        for other, size in parts.items():
            if other == name:
                return first
            first += math.prod(size)
        raise KeyError(name)

    def split(
        self, vector: Any
    ) -> tuple[dict[str, Any], dict[str, dict[str, Any]], dict[str, Any]]:
        """A vector as weights, what is kept of them by slot, moving statistics."""
        import tensorflow as tf

        def parts(sizes: dict[str, tuple[int, ...]], first: int) -> dict[str, Any]:
            told = {}
            for name, size in sizes.items():
                many = math.prod(size)
                told[name] = tf.reshape(vector[first : first + many], size)
                first += many
            return told

        kept = {
            slot: parts(self.trained, self.size_trained * place)
            for place, slot in enumerate(self.slots, start=1)
        }
        last = self.size_trained * (1 + len(self.slots))
        return parts(self.trained, 0), kept, parts(self.moving, last)

    def joined(
        self, weights: dict[str, Any], kept: dict[str, dict[str, Any]], moving: dict[str, Any]
    ) -> Any:
        """The way back."""
        import tensorflow as tf

        parts = [weights[name] for name in self.trained]
        parts += [kept[slot][name] for slot in self.slots for name in self.trained]
        parts += [moving[name] for name in self.moving]
        return tf.concat([tf.reshape(part, [-1]) for part in parts], axis=0)


def initial(
    weights: Sequence[np.ndarray], trainable: Sequence[bool], optimizer: Mapping[str, Any]
) -> bytes:
    """The state of a network before its first step, as ``keras_model.initial_state`` gives it.

    Args:
        weights: Its weights, in Keras' order.
        trainable: For each of them whether it is trained.
        optimizer: The optimizer's configuration.

    Raises:
        UnreadableError: If there is no rule for the optimizer.
    """
    rate = optimizer["config"]["learning_rate"]
    number = rate if isinstance(rate, int | float) else None
    values = _begun(weights, trainable, rule(optimizer), number)
    return checkpoint.pack(values, checkpoint.compute_layout(values))


def _begun(
    weights: Sequence[np.ndarray], trainable: Sequence[bool], rule: Rule, rate: float | None
) -> list[np.ndarray]:
    """A state's variables before the first step, in Keras' order."""
    values = [*weights, np.asarray(0, "int64")]
    if rate is not None:
        values.append(np.asarray(rate, keras.config.floatx()))
    trained = list(itertools.compress(weights, trainable))
    for group in rule.slots:
        values += [np.zeros_like(weight) for weight in trained for _ in group]
    return values


@dataclass(frozen=True)
class Unpacked:
    """A state, taken apart.

    Attributes:
        flats: All of it in Keras' order, by type.
        iterations: Steps the optimizer has taken.
        learning_rate: The learning rate in it; 0 if a schedule gives it.
    """

    flats: Mapping[str, np.ndarray]
    iterations: int
    learning_rate: float


class Trained(Protocol):
    """What a map of states needs to know of what trains the network."""

    shape: Shape
    sections: Sections
    bare: Sections
    rule: Rule
    schedule: Any


#: Where values are in a vector, run by run of those in Keras' order.
_Runs = Sequence[tuple[slice, np.ndarray]]


class StateMap:
    """Takes states of one network apart and puts them together.

    Args:
        recipe: What the networks have in common.
        network: The network.
        compiled: What trains it, in a shape that covers it.
    """

    def __init__(self, recipe: Recipe, network: Network, compiled: Trained) -> None:
        shape, rule = compiled.shape, compiled.rule
        scheduled, floatx = compiled.schedule is not None, keras.config.floatx()
        self._dtype = recipe.dtype
        hidden, output = hidden_bank(shape, network), output_bank(shape, network)
        #: How it is wired.
        self.wiring = numbers(hidden, output, sum(map(len, network.levels)), shape.merge)
        weights = [np.empty(v.shape, v.dtype or self._dtype) for v in network.variables]
        trainable = [v.trainable for v in network.variables]
        values = _begun(weights, trainable, rule, None if scheduled else 0.0)
        self._types = checkpoint.get_dtypes(values)
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
        sections, bare = compiled.sections, compiled.bare
        pairs = list(_pairs(network, shape, sections, hidden, output, by_slot))
        here = np.concatenate([here for here, _ in pairs])
        there = np.concatenate([there for _, there in pairs])
        # Keras' order has few gaps, so one of the two sides is copied in whole runs.
        in_order = np.argsort(there)
        here, there = here[in_order], there[in_order]
        self._runs = _runs(here, there)
        kept = sections.size - bare.size
        behind = here >= sections.size_trained + kept
        wanted = behind | (here < sections.size_trained)
        self._bare = _runs((here - kept * behind)[wanted], there[wanted])

    def unpack(self, data: bytes) -> Unpacked:
        """Takes a state apart.

        Raises:
            StoreError: If the bytes are no state of this network.
        """
        flats = checkpoint.unpack_flat(data, self._types, self._layout)
        rate = 0.0
        if self._rate is not None:
            dtype, place = self._rate
            rate = float(flats[dtype][place])
        return Unpacked(flats, int(flats["int64"][self._iterations]), rate)

    def pack(self, unpacked: Unpacked) -> bytes:
        """Puts a state together."""
        return checkpoint.pack_flat(unpacked.flats, self._layout)

    def lay(self, unpacked: Unpacked, vector: np.ndarray) -> None:
        """Writes weights, and what is kept of them, into a vector in the group's shape."""
        self._laid(unpacked, vector, self._runs)

    def lay_bare(self, unpacked: Unpacked, vector: np.ndarray) -> None:
        """Writes the weights alone, as who evaluates reads them."""
        self._laid(unpacked, vector, self._bare)

    def taken(self, unpacked: Unpacked, vector: np.ndarray, steps: int) -> Unpacked:
        """A state after so many steps, with its weights from a vector.

        What no vector holds is as it was.
        """
        weights = unpacked.flats[self._dtype].copy()
        for there, here in self._runs:
            np.take(vector, here, out=weights[there], mode="clip")  # unchecked: twice as fast
        whole = unpacked.flats["int64"].copy()
        iterations = unpacked.iterations + steps
        whole[self._iterations] = iterations
        flats = {**unpacked.flats, self._dtype: weights, "int64": whole}
        return Unpacked(flats, iterations, unpacked.learning_rate)

    def _laid(self, unpacked: Unpacked, vector: np.ndarray, runs: _Runs) -> None:
        weights = unpacked.flats[self._dtype]
        vector[:] = 0
        for there, here in runs:
            vector[here] = weights[there]


def _runs(here: np.ndarray, there: np.ndarray) -> _Runs:
    """Places in the vector by the runs of those in Keras' order, which rise."""
    gaps = np.flatnonzero(np.diff(there) != 1) + 1
    return [
        (slice(int(first), int(first) + len(part)), part)
        for first, part in zip(there[[0, *gaps]], np.split(here, gaps), strict=True)
    ]


def _offsets(like: Sequence[np.ndarray], dtype: str) -> list[int]:
    """Where each variable begins among those of a type; meaningless for one of another type."""
    wanted = np.dtype(dtype)
    sizes = [value.size if value.dtype == wanted else 0 for value in like]
    return [0, *np.cumsum(sizes)[:-1].tolist()]


def _pairs(
    network: Network,
    shape: Shape,
    sections: Sections,
    hidden: Bank | MergedBank,
    output: Bank | MergedBank,
    by_slot: dict[str | None, dict[tuple[str, str], int]],
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Where values are in the vector, and in Keras' order."""
    units = [unit for level in network.levels for unit in level]
    for prefix, some, bank, width in (
        ("", units, hidden, shape.neurons),
        ("output_", network.outputs, output, max(shape.outputs)),
    ):
        merged = list(map(network.merged, some))
        slots = np.split(bank.slot, np.cumsum(merged)[:-1])
        for number, (unit, slot, many) in enumerate(zip(some, slots, merged, strict=True)):
            for kept, starts in by_slot.items():
                neurons = np.arange(unit.width)
                copies = np.arange(many)
                first = sections.start(f"{prefix}kernel", kept)
                here = first + slot[:, None] + len(bank.taken) * neurons
                there = starts[unit.dense, "kernel"] + copies[:, None] * unit.width + neurons
                yield here.ravel(), there.ravel()
                first = sections.start(f"{prefix}bias", kept)
                yield first + number * width + neurons, starts[unit.dense, "bias"] + neurons
                roles = ["gamma", "beta", *(_MOVING if kept is None else ())]
                for role in roles if unit.normalization else ():
                    first = sections.start(f"{prefix}{role}", kept)
                    yield first + slot, starts[unit.normalization, role] + copies
