"""Advances a group of networks: a unit is one compiled call over all steps of all of them."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from cerebros_spark.data.shards import Chunk, ShardData
from cerebros_spark.seeds import derive
from cerebros_spark.training.fused.folding import Wires
from cerebros_spark.training.fused.forward import Networks, Wiring
from cerebros_spark.training.fused.reading import Recipe
from cerebros_spark.training.fused.scoring import Scoring
from cerebros_spark.training.fused.shapes import Bank, Shape
from cerebros_spark.training.fused.states import Sections, StateMap
from cerebros_spark.training.fused.updates import Rule, rule
from cerebros_spark.training.metrics import scoring_model
from cerebros_spark.types import MetricState

# Rows that are evaluated at a time.
_EVALUATED = 256


class Compiled:
    """What trains and evaluates networks of one recipe in one shape, compiled once.

    Args:
        recipe: What the networks have in common.
        shape: The shape that they are padded to.
        described: The program of one of them; all have its losses and metrics.
        batch_size: Rows of a step.

    Raises:
        UnreadableError: If there is no rule for their optimizer.
    """

    def __init__(self, recipe: Recipe, shape: Shape, described: str, batch_size: int) -> None:
        self.recipe = recipe
        self.shape = shape
        self.rule: Rule = rule(json.loads(recipe.compiled)["optimizer"])
        self.sections = Sections(recipe, shape, self.rule.names)
        self.batch_size = batch_size
        self.traces = 0
        rate = json.loads(recipe.compiled)["optimizer"]["config"]["learning_rate"]
        #: What gives the learning rate; None where it is part of the state.
        self.schedule = None if rate is None else keras.saving.deserialize_keras_object(rate)
        self._networks = Networks(recipe, shape)
        self._described = described
        self._scored: Scoring | None = None
        self._dtype = tf.as_dtype(recipe.dtype)
        self._train = tf.function(self._trained, jit_compile=True, autograph=False)
        self._evaluate = tf.function(self._evaluated, jit_compile=True, autograph=False)

    def train(self, vectors: Any, wiring: Any, rows: Rows, *more: Any) -> Any:
        """Runs :meth:`_trained`, compiled."""
        self.scoring(rows.y)
        return self._train(vectors, wiring, rows.x, rows.y, rows.weights, *more)

    def evaluate(self, vectors: Any, wiring: Any, rows: Rows, *more: Any) -> Any:
        """Runs :meth:`_evaluated`, compiled."""
        self.scoring(rows.y)
        return self._evaluate(vectors, wiring, rows.x, rows.y, rows.weights, *more)

    def scoring(self, y: Sequence[Any]) -> Scoring:
        """Losses and metrics; what they are, Keras makes out by the labels."""
        if self._scored is None:
            self._scored = Scoring(scoring_model(self._described, y))
        return self._scored

    def _trained(
        self,
        vectors: Any,
        wiring: Wiring,
        x: Any,
        y: Sequence[Any],
        weights: Any | None,
        order: Any,
        rows: Any,
        iterations: Any,
        rates: Any,
        many: Any,
    ) -> tuple[Any, Any]:
        """Takes a step on each batch of the rows in order.

        Args:
            vectors: States of shape ``(networks, size)``.
            wiring: How they are wired.
            x: Rows of the shard, ``(rows, inputs)``.
            y: For each output their labels.
            weights: What the rows count; None for 1.
            order: Numbers of the rows, ``(networks, steps * batch)``.
            rows: How many of them there are.
            iterations: Steps that were taken before, ``(networks,)``.
            rates: Learning rate of each step, ``(networks, steps)``.
            many: How many networks there are: those behind them are left alone.

        Returns:
            The states after the steps; the sums that make up the metrics.
        """
        self.traces += 1

        def train(vector: Any, *more: Any) -> tuple[Any, Any]:
            wires, ordered, before, planned = more
            return self._steps(vector, wires, x, y, weights, ordered, rows, before, planned)

        none = tf.zeros((vectors.shape[0], self.scoring(y).width), self._dtype)
        return _each(train, many, (vectors, none), (vectors, wiring, order, iterations, rates))

    def _steps(
        self,
        vector: Any,
        wiring: Wiring,
        x: Any,
        y: Sequence[Any],
        weights: Any | None,
        order: Any,
        rows: Any,
        iterations: Any,
        rates: Any,
    ) -> tuple[Any, Any]:
        """The steps of one network."""
        batch = self.batch_size
        wired = self._networks.wired(wiring)
        trained, kept, moving = self.sections.split(vector)
        numbers = tf.cast(tf.range(batch), tf.int32)

        def body(step: Any, trained: Any, kept: Any, moments: Any, sums: Any) -> Any:
            first = step * batch
            at = tf.slice(order, [first], [batch])
            counts = tf.cast(first + numbers < rows, self._dtype)
            raw, added, back = self._networks.trained(
                self._whole(trained, wiring), wired, tf.gather(x, at), counts
            )
            with tf.GradientTape() as tape:
                tape.watch(raw)
                loss, told = self.scoring(y)(
                    [tf.gather(each, at) for each in y],
                    self._networks.finished(raw),
                    counts,
                    None if weights is None else tf.gather(weights, at),
                )
            gradients = back(tape.gradient(loss, raw))
            number = tf.cast(iterations + step + 1, self._dtype)
            trained, kept = self._updated(trained, kept, gradients, rates[step], number)
            fade = tf.constant(self._fade, self._dtype)
            return step + 1, trained, kept, moments * fade + added * (1 - fade), sums + told

        steps = (rows + batch - 1) // batch
        none = tf.zeros((2, self.shape.features), self._dtype)
        _, trained, kept, moments, sums = tf.while_loop(
            lambda step, *_: step < steps,
            body,
            [tf.constant(0), trained, kept, none, tf.zeros(self.scoring(y).width, self._dtype)],
            maximum_iterations=rates.shape[0],
        )
        if self.recipe.normalization is not None:
            left = tf.pow(tf.constant(self._fade, self._dtype), tf.cast(steps, self._dtype))
            moving = self._networks.moved(moving, wiring, moments, left)
        return self.sections.joined(trained, kept, moving), sums

    def _evaluated(
        self,
        vectors: Any,
        wiring: Wiring,
        x: Any,
        y: Sequence[Any],
        weights: Any | None,
        rows: Any,
        many: Any,
    ) -> Any:
        """The sums that make up the metrics over all rows."""
        self.traces += 1

        def evaluate(vector: Any, wires: Any) -> tuple[Any]:
            return (self._scores(vector, wires, x, y, weights, rows),)

        none = tf.zeros((vectors.shape[0], self.scoring(y).width), self._dtype)
        return _each(evaluate, many, (none,), (vectors, wiring))[0]

    def _scores(
        self,
        vector: Any,
        wiring: Wiring,
        x: Any,
        y: Sequence[Any],
        weights: Any | None,
        rows: Any,
    ) -> Any:
        """What the metrics of one network add up to."""
        batch = _EVALUATED
        trained, _, moving = self.sections.split(vector)
        wired = self._networks.wired(wiring)
        folded = self._networks.folded(self._whole(trained, wiring), moving, wired)
        numbers = tf.cast(tf.range(batch), tf.int32)

        def body(step: Any, sums: Any) -> Any:
            first = step * batch

            def part(values: Any) -> Any:
                rest = values.shape[1:]
                return tf.slice(values, [first, *[0] * len(rest)], [batch, *rest])

            counts = tf.cast(first + numbers < rows, self._dtype)
            outputs = self._networks.inferred(folded, wired, part(x))
            of_rows = None if weights is None else part(weights)
            _, told = self.scoring(y)([part(each) for each in y], outputs, counts, of_rows)
            return step + 1, sums + told

        _, sums = tf.while_loop(
            lambda step, _: step < (rows + batch - 1) // batch,
            body,
            [tf.constant(0), tf.zeros(self.scoring(y).width, self._dtype)],
            maximum_iterations=x.shape[0] // batch,
        )
        return sums

    def _updated(
        self, trained: Any, kept: Any, gradients: Any, rate: Any, number: Any
    ) -> tuple[dict[str, Any], dict[str, dict[str, Any]]]:
        weights: dict[str, Any] = {}
        after: dict[str, dict[str, Any]] = {slot: {} for slot in kept}
        for name, weight in trained.items():
            before = {slot: parts[name] for slot, parts in kept.items()}
            weights[name], told = self.rule.step(weight, gradients[name], before, rate, number)
            for slot, value in told.items():
                after[slot][name] = value
        return weights, after

    def _whole(self, trained: dict[str, Any], wiring: Wiring) -> dict[str, Any]:
        """Weights with scales of 1 and shifts of 0 where there is no normalization.

        A slot without a copy has a scale of 0: its weight would be trained otherwise.
        """
        told = dict(trained)
        for prefix, wires in (("", wiring.hidden), ("output_", wiring.outputs)):
            if f"{prefix}gamma" not in told:
                told[f"{prefix}gamma"] = tf.cast(wires.taken, self._dtype)
                told[f"{prefix}beta"] = tf.zeros_like(told[f"{prefix}gamma"])
        return told

    @property
    def _fade(self) -> float:
        return 0.0 if self.recipe.normalization is None else self.recipe.normalization[0]


def _each(
    work: Callable[..., tuple[Any, ...]], many: Any, held: Sequence[Any], given: Any
) -> tuple[Any, ...]:
    """Does work on one network after the other.

    A network's results so don't depend on which others are there, to the last bit; and what is
    small enough for a processor's cache stays in it.

    Args:
        work: Takes what is given for a network, and gives what is held for it.
        many: How many networks there are.
        held: Results to begin with, the networks first; those of networks behind ``many`` remain.
        given: Tensors, the networks first.
    """

    def body(number: Any, *arrays: tf.TensorArray) -> Any:
        def one(values: Any) -> Any:
            rest = values.shape[1:]
            return tf.reshape(tf.slice(values, [number, *[0] * len(rest)], [1, *rest]), rest)

        told = work(*tf.nest.map_structure(one, given))
        written = (a.write(number, each) for a, each in zip(arrays, told, strict=True))
        return number + 1, *written

    arrays = [
        tf.TensorArray(each.dtype, size=each.shape[0], element_shape=each.shape[1:]).unstack(each)
        for each in held
    ]
    _, *arrays = tf.while_loop(
        lambda number, *_: number < many,
        body,
        [tf.constant(0), *arrays],
        maximum_iterations=held[0].shape[0],
    )
    return tuple(array.stack() for array in arrays)


class FusedProgram:
    """Networks of one recipe, compiled with others, advanced together."""

    def __init__(
        self,
        maps: Sequence[StateMap],
        compiled: Compiled,
        slots: int,
        rows: Callable[[ShardData, Chunk, bool], Rows],
    ) -> None:
        self._maps = tuple(maps)
        self._compiled = compiled
        self._slots = slots
        self._rows = rows
        self._left: list[dict[str, np.ndarray]] = [{} for _ in maps]
        self._vectors = np.zeros((len(maps), compiled.sections.size), compiled.recipe.dtype)
        self._iterations = np.zeros(len(maps), np.int64)
        self._rates = np.zeros(len(maps), np.float64)
        self._wirings: dict[tuple[int, int], Wiring] = {}
        self._steps = 0
        self.nbytes = 2 * self._vectors.nbytes

    @property
    def traces(self) -> int:
        """How often a step of the shape has been traced so far, for these networks or others."""
        return self._compiled.traces

    @property
    def steps(self) -> int:
        """How many training and validation steps have been run so far."""
        return self._steps

    def load(self, states: Sequence[bytes]) -> None:
        """Takes on states, one for each network."""
        for number, (held, data) in enumerate(zip(self._maps, states, strict=True)):
            told = held.unpack(data)
            self._left[number] = told.flats
            self._vectors[number] = told.vector
            self._iterations[number] = told.iterations
            self._rates[number] = 0.0 if told.learning_rate is None else told.learning_rate

    def dump(self) -> list[bytes]:
        """The states as they stand."""
        return [
            held.pack(self._left[number], self._vectors[number], int(self._iterations[number]))
            for number, held in enumerate(self._maps)
        ]

    def train(self, shard: ShardData, seeds: Sequence[int]) -> list[MetricState]:
        """Trains each network on each row of the shard once, in an order drawn from its seed."""
        orders = [derive(seed, "order") for seed in seeds]
        told = []
        for group in self._groups(1 if not shard.resident else self._slots):
            # One network at a time where the rows of each pass are others.
            passes = [shard.chunks(self._batch_size, order) for order in orders[group]]
            total: Any = 0.0
            for chunks in zip(*passes, strict=True):
                rows = self._rows(shard, chunks[0], True)
                total = total + self._unit(group, rows, [chunk.order for chunk in chunks])
            told += _told(total)
        return told

    def evaluate(self, shard: ShardData) -> list[MetricState]:
        """Evaluates each network on each row of the shard once."""
        total: Any = 0.0
        for chunk in shard.chunks(self._batch_size, None):
            rows = self._rows(shard, chunk, False)
            count = tf.constant(len(chunk.order))
            parts = []
            for group in self._groups(self._slots):
                vectors, wiring = self._vectors[group], self._wiring(group)
                many = tf.constant(len(vectors))
                told = self._compiled.evaluate(self._filled(vectors), wiring, rows, count, many)
                parts.append(told.numpy()[: len(vectors)])
            total = total + np.concatenate(parts)
        self._steps += 1
        return _told(total)

    # A group -----------------------------------------------------------------------------

    @property
    def _batch_size(self) -> int:
        return self._compiled.batch_size

    def _groups(self, many: int) -> list[slice]:
        """So many networks at a time."""
        return [slice(first, first + many) for first in range(0, len(self._maps), many)]

    def _unit(self, group: slice, data: Rows, orders: Sequence[np.ndarray]) -> np.ndarray:
        rows, batch = len(orders[0]), self._batch_size
        steps = data.x.shape[0] // batch
        order = np.zeros((self._slots, steps * batch), np.int32)
        for number, each in enumerate(orders):
            order[number, :rows] = each
        done = -(-rows // batch)
        vectors, sums = self._compiled.train(
            self._filled(self._vectors[group]),
            self._wiring(group),
            data,
            tf.constant(order),
            tf.constant(rows),
            tf.constant(self._filled(self._iterations[group]), tf.int32),
            tf.constant(self._filled(self._planned(group, steps)), self._compiled.recipe.dtype),
            tf.constant(len(orders)),
        )
        many = len(orders)
        self._vectors[group] = vectors.numpy()[:many]
        self._iterations[group] += done
        self._steps += done
        return sums.numpy()[:many]

    def _planned(self, group: slice, steps: int) -> np.ndarray:
        """The learning rate of each step to come."""
        schedule = self._compiled.schedule
        if schedule is None:
            return np.repeat(self._rates[group, None], steps, axis=1)
        return np.array(
            [
                [float(schedule(int(first) + step)) for step in range(steps)]
                for first in self._iterations[group]
            ]
        )

    def _wiring(self, group: slice) -> Wiring:
        key = group.start, group.stop
        if key not in self._wirings:
            maps = self._maps[group]
            self._wirings[key] = Wiring(
                self._wires([each.hidden for each in maps]),
                self._wires([each.output for each in maps]),
                tf.constant(self._filled(np.array([each.units for each in maps], np.int32))),
            )
        return self._wirings[key]

    def _wires(self, banks: Sequence[Bank]) -> Wires:
        fields = ([getattr(bank, name) for bank in banks] for name in Wires._fields)
        return Wires(*(tf.constant(self._filled(np.stack(field))) for field in fields))

    def _filled(self, values: np.ndarray) -> np.ndarray:
        """Values of a group, with zeros for the networks that are not there."""
        free = self._slots - len(values)
        return np.concatenate([values, np.zeros((free, *values.shape[1:]), values.dtype)])


def _told(sums: np.ndarray) -> list[MetricState]:
    return [tuple((float(value),) for value in row) for row in sums]


@dataclasses.dataclass(frozen=True)
class Rows:
    """The rows of a chunk as the networks take them, padded to whole batches.

    Attributes:
        x: The inputs, prepared and side by side: ``(rows, inputs)``.
        y: For each output the labels.
        weights: What the rows count; None for 1.
    """

    x: Any
    y: tuple[Any, ...]
    weights: Any | None


def whole_batches(rows: int, batch_size: int, training: bool) -> int:
    """So many rows, and those that fill up the last batch."""
    batch = batch_size if training else _EVALUATED
    return -(-rows // batch) * batch
