"""What trains and evaluates networks of one shape: all steps of a unit are one compiled call."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any

import keras
import tensorflow as tf

from cerebros_spark.training.fused.batches import Rows, evaluated_at_a_time
from cerebros_spark.training.fused.graph.network import FOLDED, Recipe
from cerebros_spark.training.fused.graph.padding import Shape
from cerebros_spark.training.fused.graph.wiring import Wiring, wiring
from cerebros_spark.training.fused.kernels.base import Passes
from cerebros_spark.training.fused.kernels.folded_network import Networks
from cerebros_spark.training.fused.kernels.merged_network import MergedNetworks
from cerebros_spark.training.fused.kernels.output_layer import Ends
from cerebros_spark.training.fused.losses import Scoring
from cerebros_spark.training.fused.optimizer_rules import Rule, rule
from cerebros_spark.training.fused.state_layout import Sections
from cerebros_spark.training.keras.metrics import build_scoring_model
from cerebros_spark.training.keras.xla_cache import compile_with_xla


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
        #: How a vector is laid out in training, and where networks are only evaluated.
        self.sections = Sections(recipe, shape, self.rule.names)
        self.bare = Sections(recipe, shape, ())
        self.batch_size = batch_size
        self.traces = 0
        rate = json.loads(recipe.compiled)["optimizer"]["config"]["learning_rate"]
        #: What gives the learning rate; None where it is part of the state.
        self.schedule = None if rate is None else keras.saving.deserialize_keras_object(rate)
        kind: Any = Networks if shape.merge == FOLDED else MergedNetworks
        self._networks: Passes = kind(recipe, shape)
        self._ends = Ends(recipe, shape)
        self._described = described
        self._scored: Scoring | None = None
        self._dtype = tf.as_dtype(recipe.dtype)
        self._train = compile_with_xla(self._trained)
        self._evaluate = compile_with_xla(self._evaluated)

    def train(self, vectors: Any, wirings: Any, rows: Rows, *more: Any) -> Any:
        """Runs :meth:`_trained`, compiled."""
        self.scoring(rows.y)
        return self._train(vectors, wirings, rows, *more)

    def evaluate(self, vectors: Any, wirings: Any, rows: Rows, *more: Any) -> Any:
        """Runs :meth:`_evaluated`, compiled."""
        self.scoring(rows.y)
        return self._evaluate(vectors, wirings, rows, *more)

    def scoring(self, y: Sequence[Any]) -> Scoring:
        """Losses and metrics; what they are, Keras makes out by the labels."""
        if self._scored is None:
            self._scored = Scoring(build_scoring_model(self._described, y))
        return self._scored

    def _trained(
        self,
        vectors: Any,
        wirings: Any,
        rows: Rows,
        order: Any,
        count: Any,
        iterations: Any,
        seeds: Any,
        rates: Any,
        many: Any,
    ) -> tuple[Any, Any]:
        """Takes a step on each batch of the rows in order.

        Args:
            vectors: States of shape ``(networks, size)``.
            wirings: How they are wired, ``(networks, numbers)``.
            rows: Rows of the shard, as tensors.
            order: Numbers of the rows, ``(networks, steps * batch)``.
            count: How many of them there are.
            iterations: Steps that were taken before, ``(networks,)``.
            seeds: What chance is drawn from, ``(networks,)``.
            rates: Learning rate of each step, ``(networks, steps)``.
            many: How many networks there are: those behind them are left alone.

        Returns:
            The states after the steps; the sums that make up the metrics.
        """
        self.traces += 1

        def train(vector: Any, *more: Any) -> tuple[Any, Any]:
            numbers, ordered, *others = more
            wires = wiring(numbers, self.shape)
            return self._steps(vector, wires, rows, ordered, count, *others)

        none = tf.zeros((vectors.shape[0], self.scoring(rows.y).width), self._dtype)
        return _each(
            train, many, (vectors, none), (vectors, wirings, order, iterations, seeds, rates)
        )

    def _steps(
        self,
        vector: Any,
        wires: Wiring,
        rows: Rows,
        order: Any,
        count: Any,
        iterations: Any,
        seed: Any,
        rates: Any,
    ) -> tuple[Any, Any]:
        """The steps of one network."""
        batch = self.batch_size
        wired = self._networks.wired(wires)
        trained, kept, moving = self.sections.split(vector)
        numbers = tf.cast(tf.range(batch), tf.int32)

        def body(step: Any, trained: Any, kept: Any, moments: Any, sums: Any) -> Any:
            first = step * batch
            at = tf.slice(order, [first], [batch])
            counts = tf.cast(first + numbers < count, self._dtype)
            raw, added, back = self._networks.trained(
                self._whole(trained, wires),
                wired,
                tf.gather(rows.x, at),
                counts,
                (seed, iterations + step),
            )
            with tf.GradientTape() as tape:
                tape.watch(raw)
                loss, told = self.scoring(rows.y)(
                    [tf.gather(each, at) for each in rows.y],
                    self._ends(raw),
                    counts,
                    None if rows.weights is None else tf.gather(rows.weights, at),
                )
            gradients = back(tape.gradient(loss, raw))
            number = tf.cast(iterations + step + 1, self._dtype)
            trained, kept = self._updated(trained, kept, gradients, rates[step], number)
            fade = tf.constant(self._fade, self._dtype)
            return step + 1, trained, kept, moments * fade + added * (1 - fade), sums + told

        steps = (count + batch - 1) // batch
        none = tf.zeros((2, self._networks.moments), self._dtype)
        _, trained, kept, moments, sums = tf.while_loop(
            lambda step, *_: step < steps,
            body,
            [tf.constant(0), trained, kept, none, self._no_sums(rows)],
            maximum_iterations=rates.shape[0],
        )
        if self.recipe.normalization is not None:
            left = tf.pow(tf.constant(self._fade, self._dtype), tf.cast(steps, self._dtype))
            moving = self._networks.moved(moving, wires, moments, left)
        return self.sections.joined(trained, kept, moving), sums

    def _evaluated(
        self,
        vectors: Any,
        wirings: Any,
        rows: Rows,
        count: Any,
        many: Any,
    ) -> Any:
        """The sums that make up the metrics over all rows."""
        self.traces += 1

        def evaluate(vector: Any, numbers: Any) -> tuple[Any]:
            wires = wiring(numbers, self.shape)
            return (self._scores(vector, wires, rows, count),)

        none = tf.zeros((vectors.shape[0], self.scoring(rows.y).width), self._dtype)
        return _each(evaluate, many, (none,), (vectors, wirings))[0]

    def _scores(self, vector: Any, wires: Wiring, rows: Rows, count: Any) -> Any:
        """What the metrics of one network add up to."""
        batch = evaluated_at_a_time(rows.x.shape[0])
        trained, _, moving = self.bare.split(vector)
        wired = self._networks.wired(wires)
        folded = self._networks.folded(self._whole(trained, wires), moving, wired)
        numbers = tf.cast(tf.range(batch), tf.int32)

        def body(step: Any, sums: Any) -> Any:
            first = step * batch

            def part(values: Any) -> Any:
                rest = values.shape[1:]
                return tf.slice(values, [first, *[0] * len(rest)], [batch, *rest])

            counts = tf.cast(first + numbers < count, self._dtype)
            outputs = self._ends(self._networks.inferred(folded, wired, part(rows.x)))
            of_rows = None if rows.weights is None else part(rows.weights)
            y = [part(each) for each in rows.y]
            _, told = self.scoring(rows.y)(y, outputs, counts, of_rows)
            return step + 1, sums + told

        _, sums = tf.while_loop(
            lambda step, _: step < (count + batch - 1) // batch,
            body,
            [tf.constant(0), self._no_sums(rows)],
            maximum_iterations=rows.x.shape[0] // batch,
        )
        return sums

    def _no_sums(self, rows: Rows) -> Any:
        return tf.zeros(self.scoring(rows.y).width, self._dtype)

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

    def _whole(self, trained: dict[str, Any], wires: Wiring) -> dict[str, Any]:
        """Weights with scales of 1 and shifts of 0 where there is no normalization.

        A slot without a copy has a scale of 0: its weight would be trained otherwise.
        """
        told = dict(trained)
        for prefix, some in (("", wires.hidden), ("output_", wires.outputs)):
            if f"{prefix}gamma" not in told:
                told[f"{prefix}gamma"] = tf.cast(some.taken, self._dtype)
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
