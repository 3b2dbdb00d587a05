"""Compiled calls that train or evaluate several networks of one padded shape."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import keras
import tensorflow as tf

from cerebros_spark.training.fused.batches import PaddedRows, get_evaluation_batch_size
from cerebros_spark.training.fused.graph.network import FOLDED, GroupConfig
from cerebros_spark.training.fused.graph.padding import PaddedShape
from cerebros_spark.training.fused.graph.wiring import Wiring, decode_wiring
from cerebros_spark.training.fused.kernels.folded_network import FoldedNetwork
from cerebros_spark.training.fused.kernels.merged_network import MergedNetwork
from cerebros_spark.training.fused.losses import BatchScorer
from cerebros_spark.training.fused.optimizer_rules import get_update_rule
from cerebros_spark.training.fused.state_layout import VectorLayout
from cerebros_spark.training.keras.metrics import build_scoring_model
from cerebros_spark.training.keras.xla_cache import compile_with_xla


class Visits(NamedTuple):
    """Row orders, step numbers, dropout seeds and learning rates for training on one chunk.

    Each field has one entry per network.
    """

    order: Any  # (networks, steps * batch) int32: data row indices, then padding
    iterations: Any  # (networks,) int32: number of training steps before this chunk
    seed: Any  # (networks,) uint32: dropout seed
    rates: Any  # (networks, steps) in the group's dtype: learning rate of each step


class CompiledStep:
    """Compiled training and evaluation of a group's networks in one padded shape.

    Args:
        config: Configuration of the group.
        shape: Padded shape.
        program: Program (JSON) of any trial in the group; all have equal losses and metrics.
        batch_size: Number of data rows per training step.

    Raises:
        NotFusableError: If there is no update rule for the optimizer.
    """

    def __init__(
        self, config: GroupConfig, shape: PaddedShape, program: str, batch_size: int
    ) -> None:
        self.config = config
        self.shape = shape
        optimizer = json.loads(config.compiled)["optimizer"]
        self.rule = get_update_rule(optimizer)
        #: Layouts of a network's state vector: with optimizer slots, or without for inference.
        self.layout = VectorLayout(config, shape, self.rule.names)
        self.inference_layout = VectorLayout(config, shape, ())
        self.batch_size = batch_size
        self.traces = 0
        #: Whether learning rates come from schedules instead of the model states.
        self.is_scheduled = optimizer["config"]["learning_rate"] is not None
        kind: Any = FoldedNetwork if shape.merge == FOLDED else MergedNetwork
        self._network = kind(config, shape)
        self._program = program
        self._scorer: BatchScorer | None = None
        self._dtype = tf.as_dtype(config.dtype)
        #: Momentum of the moving statistics.
        self._momentum = 0.0 if config.normalization is None else config.normalization[0]
        self._compiled_train = compile_with_xla(self._train)
        self._compiled_evaluate = compile_with_xla(self._evaluate)

    def train(
        self, vectors: Any, wirings: Any, rows: PaddedRows, visits: Visits, count: Any, used: Any
    ) -> tuple[Any, Any]:
        """Train each network for one step on each batch of data rows.

        Args:
            vectors: State vectors, ``(networks, layout.size)``, in the group's dtype.
            wirings: Encoded wirings, ``(networks, size) int32``.
            rows: Data rows of a chunk.
            visits: Row orders, step numbers, seeds and learning rates of the networks.
            count: Number of data rows without padding, ``() int32``.
            used: Number of networks to train, ``() int32``; the networks after these are padding.

        Returns:
            The state vectors after the steps, ``(networks, layout.size)``, and the metric values,
            ``(networks, metric values)``.
        """
        self._get_scorer(rows.y)
        results: tuple[Any, Any] = self._compiled_train(vectors, wirings, rows, visits, count, used)
        return results

    def evaluate(self, vectors: Any, wirings: Any, rows: PaddedRows, count: Any, used: Any) -> Any:
        """Evaluate each network on all data rows.

        Args:
            vectors: State vectors, ``(networks, inference_layout.size)``, in the group's dtype.
            wirings: Encoded wirings, ``(networks, size) int32``.
            rows: Data rows of a chunk.
            count: Number of data rows without padding, ``() int32``.
            used: Number of networks to evaluate, ``() int32``; the networks after these are
                padding.

        Returns:
            The metric values, ``(networks, metric values)``.
        """
        self._get_scorer(rows.y)
        return self._compiled_evaluate(vectors, wirings, rows, count, used)

    def _get_scorer(self, y: Sequence[Any]) -> BatchScorer:
        """Return the scorer, built on the first call because Keras' metrics depend on labels."""
        if self._scorer is None:
            self._scorer = BatchScorer(build_scoring_model(self._program, y))
        return self._scorer

    def _train(
        self, vectors: Any, wirings: Any, rows: PaddedRows, visits: Visits, count: Any, used: Any
    ) -> tuple[Any, ...]:
        self.traces += 1

        def train(vector: Any, numbers: Any, visit: Visits) -> tuple[Any, Any]:
            wiring = decode_wiring(numbers, self.shape)
            return self._train_network(vector, wiring, rows, visit, count)

        none = tf.zeros((vectors.shape[0], self._get_scorer(rows.y).width), self._dtype)
        return _for_each_network(train, used, (vectors, none), (vectors, wirings, visits))

    def _train_network(
        self, vector: Any, wiring: Wiring, rows: PaddedRows, visit: Visits, count: Any
    ) -> tuple[Any, Any]:
        """Train one network, as :meth:`train` does; return its state vector and metric values."""
        batch = self.batch_size
        prepared = self._network.prepare(wiring)
        trained, slots, moving = self.layout.split(vector)
        numbers = tf.cast(tf.range(batch), tf.int32)

        def body(step: Any, trained: Any, slots: Any, moments: Any, sums: Any) -> Any:
            first = step * batch
            at = tf.slice(visit.order, [first], [batch])
            counts = tf.cast(first + numbers < count, self._dtype)
            raw, added, backward = self._network.train_forward(
                self._add_scales(trained, wiring),
                prepared,
                tf.gather(rows.x, at),
                counts,
                (visit.seed, visit.iterations + step),
            )
            with tf.GradientTape() as tape:
                tape.watch(raw)
                loss, batch_sums = self._get_scorer(rows.y)(
                    [tf.gather(each, at) for each in rows.y],
                    self._activate_outputs(raw),
                    counts,
                    None if rows.weights is None else tf.gather(rows.weights, at),
                )
                scaled = loss * self.config.gradient_scale
            gradients = backward(tape.gradient(scaled, raw))
            number = tf.cast(visit.iterations + step + 1, self._dtype)
            trained, slots = self._update(trained, slots, gradients, visit.rates[step], number)
            momentum = tf.constant(self._momentum, self._dtype)
            moments = moments * momentum + added * (1 - momentum)
            return step + 1, trained, slots, moments, sums + batch_sums

        steps = (count + batch - 1) // batch
        none = tf.zeros((2, self._network.moments), self._dtype)
        _, trained, slots, moments, sums = tf.while_loop(
            lambda step, *_: step < steps,
            body,
            [tf.constant(0), trained, slots, none, self._make_zero_sums(rows)],
            maximum_iterations=visit.rates.shape[0],
        )
        if self.config.normalization is not None:
            left = tf.pow(tf.constant(self._momentum, self._dtype), tf.cast(steps, self._dtype))
            moving = self._network.update_moving(moving, wiring, moments, left)
        return self.layout.join(trained, slots, moving), sums

    def _evaluate(self, vectors: Any, wirings: Any, rows: PaddedRows, count: Any, used: Any) -> Any:
        self.traces += 1

        def evaluate(vector: Any, numbers: Any) -> tuple[Any]:
            wiring = decode_wiring(numbers, self.shape)
            return (self._evaluate_network(vector, wiring, rows, count),)

        none = tf.zeros((vectors.shape[0], self._get_scorer(rows.y).width), self._dtype)
        return _for_each_network(evaluate, used, (none,), (vectors, wirings))[0]

    def _evaluate_network(self, vector: Any, wiring: Wiring, rows: PaddedRows, count: Any) -> Any:
        """Evaluate the network with the state ``vector``; return its ``(metric values,)``."""
        batch = get_evaluation_batch_size(rows.x.shape[0])
        trained, _, moving = self.inference_layout.split(vector)
        prepared = self._network.prepare(wiring)
        weights = self._network.fold(self._add_scales(trained, wiring), moving, prepared)
        numbers = tf.cast(tf.range(batch), tf.int32)

        def body(step: Any, sums: Any) -> Any:
            first = step * batch

            def part(values: Any) -> Any:
                rest = values.shape[1:]
                return tf.slice(values, [first, *[0] * len(rest)], [batch, *rest])

            counts = tf.cast(first + numbers < count, self._dtype)
            raw = self._network.infer(weights, prepared, part(rows.x))
            outputs = self._activate_outputs(raw)
            row_weights = None if rows.weights is None else part(rows.weights)
            y = [part(each) for each in rows.y]
            _, batch_sums = self._get_scorer(rows.y)(y, outputs, counts, row_weights)
            return step + 1, sums + batch_sums

        _, sums = tf.while_loop(
            lambda step, _: step < (count + batch - 1) // batch,
            body,
            [tf.constant(0), self._make_zero_sums(rows)],
            maximum_iterations=rows.x.shape[0] // batch,
        )
        return sums

    def _activate_outputs(self, raw: Any) -> list[Any]:
        """Return one tensor of shape ``(batch, output width)`` per output.

        ``raw`` has the shape ``(outputs, width, batch)``.
        """
        results = []
        by_row = tf.transpose(raw, (0, 2, 1))  # (outputs, batch, width)
        for number, width in enumerate(self.shape.outputs):
            output = json.loads(self.config.outputs[number])
            values = keras.activations.get(output["activation"])(by_row[number, :, :width])
            if "scale" in output:
                scale = tf.constant(output["scale"], values.dtype)
                values = values * scale + tf.constant(output["offset"], values.dtype)
            results.append(values)
        return results

    def _make_zero_sums(self, rows: PaddedRows) -> Any:
        """Return zeros ``(metric values,)``, to which the batches' metric values are added."""
        return tf.zeros(self._get_scorer(rows.y).width, self._dtype)

    def _update(
        self, trained: Any, slots: Any, gradients: Any, rate: Any, number: Any
    ) -> tuple[dict[str, Any], dict[str, dict[str, Any]]]:
        """Return weights and optimizer slots, by name, after step ``number``, counted from 1."""
        weights: dict[str, Any] = {}
        after: dict[str, dict[str, Any]] = {slot: {} for slot in slots}
        for name, weight in trained.items():
            before = {slot: parts[name] for slot, parts in slots.items()}
            weights[name], values = self.rule.step(weight, gradients[name], before, rate, number)
            for slot, value in values.items():
                after[slot][name] = value
        return weights, after

    def _add_scales(self, trained: dict[str, Any], wiring: Wiring) -> dict[str, Any]:
        """Return the weights; without normalization, add scales of 1 and shifts of 0, ``(slots,)``.

        A slot that no copy of a feature uses gets scale 0; otherwise its weight would be trained.
        """
        if self.config.normalization is not None:
            return trained
        scales = {}
        for prefix, wires in (("", wiring.hidden), ("output_", wiring.outputs)):
            scales[f"{prefix}gamma"] = gamma = tf.cast(wires.occupied, self._dtype)
            scales[f"{prefix}beta"] = tf.zeros_like(gamma)
        return {**trained, **scales}


def _for_each_network(
    work: Callable[..., tuple[Any, ...]], used: Any, initial: Sequence[Any], arguments: Any
) -> tuple[Any, ...]:
    """Run the function ``work`` for one network after the other.

    A network's results then do not depend on the other networks, not even in their last bits, and
    its data stay in the processor's cache.

    ``work`` gets one network's slice of the nested tensors ``arguments (networks, ...)``. The
    stacked results are ``(networks, ...)``; those after the first ``used`` networks equal
    ``initial``.
    """

    def body(number: Any, *arrays: tf.TensorArray) -> Any:
        def one(values: Any) -> Any:
            rest = values.shape[1:]
            return tf.reshape(tf.slice(values, [number, *[0] * len(rest)], [1, *rest]), rest)

        results = work(*tf.nest.map_structure(one, arguments))
        written = (a.write(number, each) for a, each in zip(arrays, results, strict=True))
        return number + 1, *written

    arrays = [
        tf.TensorArray(each.dtype, size=each.shape[0], element_shape=each.shape[1:]).unstack(each)
        for each in initial
    ]
    _, *arrays = tf.while_loop(
        lambda number, *_: number < used,
        body,
        [tf.constant(0), *arrays],
        maximum_iterations=initial[0].shape[0],
    )
    return tuple(array.stack() for array in arrays)
