"""Trains one Keras model: a unit is one compiled call that loops over all its steps.

Nothing is retraced between visits. The shard's rows lie in TensorFlow's memory already, and a
hop sets variables.
"""

from __future__ import annotations

import contextlib
import functools
import gc
import json
import math
import weakref
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from tensorflow.python.eager import context

from cerebros_spark.core.errors import ArgumentError
from cerebros_spark.core.seeding import derive
from cerebros_spark.core.types import MetricState, TrialSpec
from cerebros_spark.data.shards import Chunk, ShardData
from cerebros_spark.training.keras.flat_updates import FlatUpdates
from cerebros_spark.training.keras.large_updates import update_large_in_one_pass
from cerebros_spark.training.keras.optimizer_support import update_without_replicas
from cerebros_spark.training.keras.row_weights import class_weights, weighted
from cerebros_spark.training.keras.serialization import (
    StateVariables,
    drawing_from,
    rebuild,
    undisturbed,
)

# Rows predicted at a time: so many that the widest layer gives about so many values.
_VALUES_AT_A_TIME = 2**20
_FEWEST_ROWS, _MOST_ROWS = 32, 2**14

_GRAPH_BYTES_PER_VARIABLE = 100_000  # measured: a traced train and test step of a small network


class KerasTrainer:
    """Opens trials as Keras models. Shards that are kept decoded are shared by all of them."""

    resident = True

    def __init__(self) -> None:
        self._tensors: weakref.WeakKeyDictionary[ShardData, tuple[Any, ...]] = (
            weakref.WeakKeyDictionary()
        )

    def open(self, specs: Sequence[TrialSpec]) -> KerasProgram:
        """Rebuilds the one trial's model."""
        if len(specs) != 1:
            raise ArgumentError(f"this trainer advances one trial at a time, but got {len(specs)}")
        return KerasProgram(specs[0], self.chunks)

    def release_memory(self, trial_ids: Sequence[str]) -> None:
        """Frees graphs and compiled calls; a process would grow by a megabyte a trial."""
        # Graphs refer to themselves in circles, and would pile up until Python looks for them.
        gc.collect()
        # TensorFlow keeps a kernel for every function that was ever called. This is Keras' own
        # way to have it let go; clear_session() would reset names that others count on.
        context.context().clear_kernel_cache()

    def chunks(
        self, shard: ShardData, batch_size: int, seed: int | None
    ) -> Iterator[tuple[tuple[Any, ...], np.ndarray]]:
        """The shard's chunks as tensors, and their order; a resident shard's are made once.

        The tensors are x and y, and the sample weights if the shard has any.
        """
        for chunk in shard.chunks(batch_size, seed):
            if shard.resident:
                if shard not in self._tensors:
                    self._tensors[shard] = _tensors(chunk)
                yield self._tensors[shard], chunk.order
            else:
                order, tensors = chunk.order, [_tensors(chunk)]
                del chunk  # the copy is enough, and the next one needs the room
                yield tensors.pop(), order


class KerasProgram:
    """One Keras model, resident: built once, its steps traced once, advanced many times."""

    def __init__(
        self,
        spec: TrialSpec,
        chunks: Callable[
            [ShardData, int, int | None], Iterator[tuple[tuple[Any, ...], np.ndarray]]
        ],
    ) -> None:
        self._batch_size = spec.batch_size
        self._chunks = chunks
        self._model = rebuild(spec.program)
        update_without_replicas(self._model.optimizer)
        update_large_in_one_pass(self._model.optimizer)
        with drawing_from(0):  # Keras would be disturbed by who builds a model in another thread
            self._updates = FlatUpdates(self._model)
        self._class_weights = class_weights(json.loads(spec.program))
        self._variables = StateVariables(self._model)
        self._generators = [
            v for v in self._model.variables if v.path.endswith("seed_generator_state")
        ]
        self._steps = tf.Variable(0, dtype=tf.int64, trainable=False, name="steps")
        self._rows: Any = None  # of the batch that is being traced
        self._train: Any = None
        self._test: Any = None
        self._predict: Any = None
        self.traces = 0
        count = len(self._model.variables) + len(self._model.optimizer.variables)
        graph = _GRAPH_BYTES_PER_VARIABLE * count
        self.nbytes = 4 * self._variables_size() + self._updates.nbytes + graph

    @property
    def steps(self) -> int:
        """How many training and validation steps have been run so far."""
        return int(self._steps.numpy())

    def load(self, states: Sequence[bytes]) -> None:
        """Takes on a state."""
        self._variables.write(states[0])

    def dump(self) -> list[bytes]:
        """The state as it stands."""
        return [self._variables.read()]

    def train(self, shard: ShardData, seeds: Sequence[int]) -> list[MetricState]:
        """Trains on each row of the shard once, in an order drawn from the seed."""
        seed = seeds[0]
        for number, generator in enumerate(self._generators):
            generator.assign(np.array([derive(seed, "generator", number), 0], np.uint32))
        return self._run("_train", shard, derive(seed, "order"))

    def evaluate(self, shard: ShardData) -> list[MetricState]:
        """Evaluates on each row of the shard once; leaves the state as it is.

        Raises:
            ArgumentError: If a layer changes a weight in evaluation: what comes of it would depend
                on which partitions this worker has evaluated before.
        """
        first = self._test is None
        kept = self._without_gradients() if first else self._generators
        before = [variable.numpy() for variable in kept]
        drawing = set(map(id, self._generators))
        metrics = self._run("_test", shard, None)
        for variable, value in zip(kept, before, strict=True):
            if id(variable) in drawing:
                variable.assign(value)
            elif not np.array_equal(variable.numpy(), value, equal_nan=True):
                raise ArgumentError(
                    f"cannot evaluate the network: {variable.path} changes in evaluation, so the "
                    "metrics of a partition would depend on those before it; change it only where "
                    "call() is given training=True"
                )
        return metrics

    def _without_gradients(self) -> list[Any]:
        return [variable for variable in self._model.variables if not variable.trainable]

    def predict(self, x: Sequence[np.ndarray]) -> list[np.ndarray]:
        """The outputs for rows: for each input an array in, for each output an array out."""
        if self._predict is None:
            self._predict = self._prediction()
        rows = self._rows_at_a_time
        parts = [
            [output.numpy() for output in self._predict(self._taken(x, start, start + rows))]
            for start in range(0, len(x[0]), rows)
        ]
        return (
            parts[0] if len(parts) == 1 else [np.concatenate(p) for p in zip(*parts, strict=True)]
        )

    def _taken(self, x: Sequence[np.ndarray], start: int, stop: int) -> list[Any]:
        return [
            tf.cast(tf.convert_to_tensor(each[start:stop]), tensor.dtype)
            for each, tensor in zip(x, self._model.inputs, strict=True)
        ]

    @functools.cached_property
    def _rows_at_a_time(self) -> int:
        """As many rows as let a small network work at its pace, and a large one in its memory."""
        widest = max(_widths(self._model), default=1)
        return max(_FEWEST_ROWS, min(_MOST_ROWS, _VALUES_AT_A_TIME // widest))

    def _prediction(self) -> Any:
        """Compiles the network, as it predicts, for any number of rows.

        Keras' own ``predict`` spends longer on a small network's batches than the network does.
        """

        def predict(inputs: list[Any]) -> list[Any]:
            outputs = self._model(inputs[0] if len(inputs) == 1 else inputs, training=False)
            return list(outputs) if isinstance(outputs, list | tuple) else [outputs]

        signature = [tf.TensorSpec((None, *i.shape[1:]), i.dtype) for i in self._model.inputs]
        compiled = tf.function(predict, input_signature=[signature], autograph=False)
        with undisturbed(self._model), _without_layer_losses(self._model):
            return compiled.get_concrete_function()

    def _run(self, name: str, shard: ShardData, seed: int | None) -> list[MetricState]:
        self._model.reset_metrics()
        batch_size = tf.constant(self._batch_size, tf.int64)
        for data, order in self._chunks(shard, self._batch_size, seed):
            if getattr(self, name) is None:
                step = self._train_step if name == "_train" else self._test_step
                build_metrics(self._model, *data[:2])
                self._weigh_losses()
                with undisturbed(self._model), _without_layer_losses(self._model):
                    setattr(self, name, self._loop(step, data))
            getattr(self, name)(data, tf.constant(order, tf.int64), batch_size)
            del data, order  # before the next chunk is read
            self._check_loss(name)
        return [metric_state(self._model)]

    def _train_step(self, data: tuple[Any, ...]) -> None:
        self._check_reported(self._model.train_step(weighted(data, self._class_weights)))

    def _test_step(self, data: tuple[Any, ...]) -> None:
        self._check_reported(self._model.test_step(weighted(data, None)))

    def _check_reported(self, reported: Any) -> None:
        """Refuse values that a step of the user's own returns beside the compiled metrics."""
        known = keras.Model.get_metrics_result(self._model)
        extra = sorted(set(_names(reported)) - set(known))
        if extra:
            raise ArgumentError(
                f"cannot report {', '.join(extra)}: {type(self._model).__name__} computes it "
                "itself, and only the metrics of compile() are merged over partitions; pass a "
                "metric to compile()"
            )

    def _check_loss(self, name: str) -> None:
        """Refuse a step of the user's own that leaves the loss uncounted: it would read as 0."""
        step = "train_step" if name == "_train" else "test_step"
        own = getattr(type(self._model), step) is not getattr(keras.Model, step)
        if own and float(self._model._loss_tracker.count.numpy()) == 0:
            raise ArgumentError(
                f"cannot report the loss: {type(self._model).__name__}.{step} does not update "
                "self.metrics; update the metric named 'loss' with it, as Keras' own step does"
            )

    def _loop(self, step: Callable[[Any], Any], data: tuple[Any, ...]) -> Any:
        """Compiles a function that takes a step on each batch of the rows in order."""

        def loop(data: tuple[Any, ...], order: Any, batch_size: Any) -> None:
            self.traces += 1
            rows = tf.shape(order, out_type=tf.int64)[0]

            def body(start: Any) -> Any:
                batch = order[start : tf.minimum(start + batch_size, rows)]
                self._rows = tf.shape(batch)[0]
                step(tf.nest.map_structure(lambda value: tf.gather(value, batch), data))
                self._steps.assign_add(1)
                return start + batch_size

            zero = tf.constant(0, tf.int64)
            self._updates.begin()
            tf.while_loop(lambda start: start < rows, body, [zero], parallel_iterations=1)
            self._updates.end()

        any_rows = tf.nest.map_structure(
            lambda value: tf.TensorSpec((None, *value.shape[1:]), value.dtype), data
        )
        signature = [
            any_rows,
            tf.TensorSpec((None,), tf.int64),
            tf.TensorSpec((), tf.int64),
        ]
        compiled = tf.function(loop, input_signature=signature, autograph=False)
        try:
            return compiled.get_concrete_function()
        finally:
            self._rows = None

    def _weigh_losses(self) -> None:
        """Has the loss of each of several outputs count rows.

        Keras weighs a batch by its size where that is known while tracing, and here it is not:
        a small last batch would count as much as a full one.
        """
        compiled = self._model._compile_loss
        for tracker in compiled.metrics if compiled is not None else ():
            if "update_state" not in vars(tracker):
                tracker.update_state = functools.partial(self._update_by_rows, tracker.update_state)

    def _update_by_rows(self, update: Callable[..., Any], value: Any, sample_weight: Any) -> Any:
        return update(value, sample_weight=sample_weight if self._rows is None else self._rows)

    def _variables_size(self) -> int:
        everything = [*self._model.variables, *self._model.optimizer.variables]
        return sum(int(np.prod(v.shape)) for v in everything)


def _names(reported: Any) -> Iterator[str]:
    """The names in what a step returns; Keras takes a dict within it apart."""
    for name, value in reported.items() if isinstance(reported, dict) else ():
        if isinstance(value, dict):
            yield from _names(value)
        else:
            yield name


def _widths(model: Any) -> Iterator[int]:
    """How many values a row has at each point of a network."""
    for layer in model._flatten_layers():
        for node in layer._inbound_nodes:
            for tensor in node.output_tensors:
                yield math.prod(size or 1 for size in tensor.shape[1:])


@contextlib.contextmanager
def _without_layer_losses(model: Any) -> Iterator[None]:
    """Clear the losses that layers added while a graph was traced.

    Layers keep them until their next call. They are tensors of the graph: nothing outside of it
    can read them, and they would keep it alive.
    """
    try:
        yield
    finally:
        model._clear_losses()


def build_metrics(model: Any, x: Any, y: Any) -> None:
    """Has a model create its loss' and metrics' variables, without running the network.

    Keras creates them in the first step; inside ``tf.function`` that would trace the step twice,
    and tracing is what a search over small networks spends most of its time on. The losses of
    layers have no variables, so the compiled loss is called alone; there may be none, where
    layers add the whole loss.
    """
    one_row = tf.nest.map_structure(lambda value: value[:1], (x, y))
    outputs = [tf.zeros((1, *tensor.shape[1:]), tensor.dtype) for tensor in model.outputs]
    predictions = outputs[0] if len(outputs) == 1 else outputs
    if model._compile_loss is not None:
        model._compile_loss(one_row[1], predictions)
    model.compute_metrics(one_row[0], one_row[1], predictions)
    model.reset_metrics()


def metric_state(model: Any) -> MetricState:
    """The variables of a model's metrics, the loss' first."""
    return tuple(
        tuple(np.ravel(variable.numpy()).astype(float).tolist())
        for variable in model.metrics_variables
    )


def _tensors(chunk: Chunk) -> tuple[Any, ...]:
    x = [tf.constant(array) for array in chunk.x]
    y = [tf.constant(array) for array in chunk.y]
    weights = () if chunk.weights is None else (tf.constant(chunk.weights),)
    return x[0] if len(x) == 1 else x, y[0] if len(y) == 1 else y, *weights
