"""Training of one Keras model, with one compiled call for all steps of a unit of work.

Steps are not traced again for each unit: rows are passed as tensors, and loading a model state only
assigns variables.
"""

from __future__ import annotations

import contextlib
import functools
import gc
import json
import math
import weakref
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from cerebros_spark.compat import keras as compat
from cerebros_spark.compat.tensorflow import clear_kernel_cache
from cerebros_spark.core.errors import ArgumentError
from cerebros_spark.core.seeding import derive_seed
from cerebros_spark.core.types import MetricVariables, TrialSpec
from cerebros_spark.data.shards import Chunk, ShardData
from cerebros_spark.training.keras.checkpoint import StateVariables
from cerebros_spark.training.keras.dropout_masks import draw_short_masks
from cerebros_spark.training.keras.einsum_products import multiply_without_sums
from cerebros_spark.training.keras.flat_updates import FlatUpdates
from cerebros_spark.training.keras.large_updates import update_large_in_one_pass
from cerebros_spark.training.keras.optimizer_support import (
    scale_gradients,
    update_without_replicas,
)
from cerebros_spark.training.keras.regularization import FadingRegularization
from cerebros_spark.training.keras.row_weights import add_row_weights, read_class_weights
from cerebros_spark.training.keras.scopes import seeded_initializers, tracing_scope
from cerebros_spark.training.keras.serialization import deserialize_model
from cerebros_spark.training.keras.structure import NumberVariables, get_structure, read_numbers

# Rows per prediction step are chosen so that the widest layer has about this many values.
_VALUES_PER_STEP = 2**20
_MIN_ROWS, _MAX_ROWS = 32, 2**14

# Programs of ended trials are kept for others of their structure up to this size.
_KEPT_BYTES = 256 * 2**20

_GRAPH_BYTES_PER_VARIABLE = 100_000  # measured for traced steps of a small network

#: For each chunk of a shard, its tensors (x, y, sample weights if any) and the order of its rows.
_TensorChunks = Iterator[tuple[tuple[Any, ...], np.ndarray]]


class KerasTrainer:
    """Trainer of single Keras models, which share the tensors of shards kept in memory.

    Args:
        eager: Whether to run steps operation by operation instead of tracing them to a graph. Steps
            are then slower, but breakpoints in custom layers work.
    """

    resident = True

    def __init__(self, *, eager: bool = False) -> None:
        self._eager = eager
        # Programs by structure.
        self._shared: weakref.WeakValueDictionary[str, KerasProgram] = weakref.WeakValueDictionary()
        self._kept: OrderedDict[str, KerasProgram] = OrderedDict()
        # Programs that are not kept, until they are collected.
        self._loose: weakref.WeakSet[KerasProgram] = weakref.WeakSet()
        self._tensors: weakref.WeakKeyDictionary[ShardData, tuple[Any, ...]] = (
            weakref.WeakKeyDictionary()
        )

    def open(self, specs: Sequence[TrialSpec]) -> SharedProgram:
        """Open the program of a single trial.

        Trials whose programs have equal structures (see :func:`~.structure.get_structure`) share
        one model and its graphs.

        Raises:
            ArgumentError: If there is more than one trial.
        """
        if len(specs) != 1:
            raise ArgumentError(f"this trainer runs one trial at a time, but got {len(specs)}")
        spec = specs[0]
        structure = get_structure(spec.program, spec.batch_size)
        program = None if structure is None else self._shared.get(structure)
        if program is None:
            program = KerasProgram(spec, self._tensor_chunks, eager=self._eager)
        if structure is not None:
            self._shared[structure] = program
        if structure is not None and read_numbers(spec.program):
            self._keep(structure, program)
        else:
            self._loose.add(program)
        return SharedProgram(program, spec)

    def _keep(self, structure: str, program: KerasProgram) -> None:
        """Keep a program for later trials; drop the least recently opened ones above a total size.

        Trials with a schedule of this package have few different structures, and may have several
        folds.
        """
        self._kept.pop(structure, None)
        self._kept[structure] = program
        self._loose.discard(program)
        total = 0
        for number, (key, each) in enumerate(reversed(list(self._kept.items()))):
            total += each.nbytes
            if number and total > _KEPT_BYTES:
                self._loose.add(self._kept.pop(key))

    def release_memory(self, trial_ids: Sequence[str]) -> None:
        """Release the graphs and kernels of all evicted programs, about a megabyte per trial.

        ``trial_ids`` is not used.
        """
        if not self._loose:
            return  # a collection takes longer than a unit of a small network
        # Graphs are in reference cycles.
        gc.collect()
        # clear_session() would do this too, but resets names that other code depends on.
        clear_kernel_cache()

    def _tensor_chunks(
        self, shard: ShardData, batch_size: int, seed: int | None, passes: int
    ) -> _TensorChunks:
        for chunk in shard.chunks(batch_size, seed, passes):
            if shard.resident:
                if shard not in self._tensors:
                    self._tensors[shard] = _to_tensors(chunk)
                yield self._tensors[shard], chunk.order
            else:
                order, tensors = chunk.order, [_to_tensors(chunk)]
                del chunk  # frees its memory for the next one
                yield tensors.pop(), order


class SharedProgram:
    """Program of one trial, which shares its model and graphs with trials of equal structure.

    Attributes:
        nbytes: Estimated memory use of the shared program, in bytes.
    """

    def __init__(self, program: KerasProgram, spec: TrialSpec) -> None:
        self._program = program
        self._passes = spec.passes
        self._numbers = read_numbers(spec.program)
        self.nbytes = program.nbytes

    @property
    def is_loaded(self) -> bool:
        """Whether the shared program currently holds this trial's model state."""
        return self._program.user is self

    @property
    def traces(self) -> int:
        """Number of times that a step was traced for any trial that shares the program."""
        return self._program.traces

    @property
    def steps(self) -> int:
        """Number of steps run so far for all trials that share the program."""
        return self._program.steps

    def load(self, checkpoints: Sequence[bytes]) -> None:
        """Load the trial's model state, the only item of ``checkpoints``."""
        self._program.user = None
        self._program.assign_numbers(self._numbers)
        self._program.load(checkpoints)
        self._program.user = self

    def train(self, shard: ShardData, seeds: Sequence[int]) -> list[MetricVariables]:
        """Train on all rows of the shard once per pass; return the metric variables.

        The number of passes is the trial's ``passes``. Each pass has a different row order.
        ``seeds`` has one item, which determines the row orders and the state of all seed
        generators, such as those of dropout layers.
        """
        return self._program.train(shard, seeds, self._passes)

    def evaluate(self, shard: ShardData) -> list[MetricVariables]:
        """Evaluate once on all rows of the shard, and return the metric variables.

        The model state does not change.
        """
        return self._program.evaluate(shard)

    def predict(self, x: Sequence[np.ndarray]) -> list[np.ndarray]:
        """Return one array ``(rows, ...)`` of predictions per output.

        ``x`` has one array ``(rows, ...)`` per input.
        """
        return self._program.predict(x)

    def dump(self) -> list[bytes]:
        """Return the trial's current model state, as a list of one checkpoint."""
        return self._program.dump()


class KerasProgram:
    """One Keras model, built and traced once, that runs many units of work.

    ``tensor_chunks`` is a function that yields a shard's chunks as tensors, each with the order of
    its rows. ``eager`` is that of :class:`KerasTrainer`.
    """

    def __init__(
        self,
        spec: TrialSpec,
        tensor_chunks: Callable[[ShardData, int, int | None, int], _TensorChunks],
        *,
        eager: bool = False,
    ) -> None:
        self._eager = eager
        self._batch_size = spec.batch_size
        self._tensor_chunks = tensor_chunks
        self._model = deserialize_model(spec.program)
        multiply_without_sums(self._model)
        draw_short_masks(self._model)
        update_without_replicas(self._model.optimizer)
        update_large_in_one_pass(self._model.optimizer)
        with seeded_initializers(0):  # its lock keeps out threads that build models
            self._updates = FlatUpdates(self._model)
        program = json.loads(spec.program)
        self._class_weights = read_class_weights(program)
        scale_gradients(self._model.optimizer, program.get("gradient_scale", 1.0))
        self.user: Any = None  # the trial whose state is loaded
        self._number_variables = NumberVariables(self._model, spec.program)
        self._regularization = FadingRegularization(self._model)
        self._variables = StateVariables(self._model)
        self._generators = [
            v for v in self._model.variables if v.path.endswith("seed_generator_state")
        ]
        self._steps = tf.Variable(0, dtype=tf.int64, trainable=False, name="steps")
        self._step_rows: Any = None  # number of rows in the step's batch
        self._loops: dict[str, Any] = {}  # compiled loops by name of the step
        self.traces = 0
        variables = [*self._model.variables, *self._model.optimizer.variables]
        values = sum(int(np.prod(v.shape)) for v in variables)
        graphs = _GRAPH_BYTES_PER_VARIABLE * len(variables)
        self.nbytes = 4 * values + self._updates.nbytes + graphs

    @property
    def steps(self) -> int:
        """Number of training and evaluation steps run so far."""
        return int(self._steps.numpy())

    def assign_numbers(self, numbers: tuple[float, ...]) -> None:
        """Assign a trial's numbers, which ``structure.read_numbers`` returned, to the optimizer."""
        self._number_variables.assign(numbers)

    def load(self, checkpoints: Sequence[bytes]) -> None:
        """Load a trial's model state, the only item of ``checkpoints``."""
        self._variables.write(checkpoints[0])

    def dump(self) -> list[bytes]:
        """Return the current model state, as a list of one checkpoint."""
        return [self._variables.read()]

    def train(
        self, shard: ShardData, seeds: Sequence[int], passes: int = 1
    ) -> list[MetricVariables]:
        """Train on all rows of the shard once per pass; return the metric variables.

        Each pass has a different row order. ``seeds`` has one item, which determines the row
        orders and the state of all seed generators, such as those of dropout layers.
        """
        seed = seeds[0]
        for number, generator in enumerate(self._generators):
            generator.assign(np.array([derive_seed(seed, "generator", number), 0], np.uint32))
        order = derive_seed(seed, "order")
        return self._run("train_step", self._train_step, shard, order, passes)

    def evaluate(self, shard: ShardData) -> list[MetricVariables]:
        """Evaluate once on all rows of the shard, and return the metric variables.

        The model state does not change.

        Raises:
            ArgumentError: If a layer changes a weight during evaluation, because the result would
                then depend on the partitions that this worker has evaluated before.
        """
        kept = self._generators
        if "test_step" not in self._loops:  # checked once
            kept = [variable for variable in self._model.variables if not variable.trainable]
        before = [variable.numpy() for variable in kept]
        generators = set(map(id, self._generators))
        metrics = self._run("test_step", self._test_step, shard, None)
        for variable, value in zip(kept, before, strict=True):
            if id(variable) in generators:
                variable.assign(value)
            elif not np.array_equal(variable.numpy(), value, equal_nan=True):
                raise ArgumentError(
                    f"cannot evaluate the network: {variable.path} changes in evaluation, so the "
                    "metrics of a partition would depend on those before it; change it only if "
                    "call() is given training=True"
                )
        return metrics

    def predict(self, x: Sequence[np.ndarray]) -> list[np.ndarray]:
        """Return one array ``(rows, ...)`` of predictions per output.

        ``x`` has one array ``(rows, ...)`` per input.
        """
        rows, parts = self._rows_per_prediction, []
        for start in range(0, len(x[0]), rows):
            inputs = [
                tf.cast(tf.convert_to_tensor(each[start : start + rows]), tensor.dtype)
                for each, tensor in zip(x, self._model.inputs, strict=True)
            ]
            parts.append([output.numpy() for output in self._predict(inputs)])
        if len(parts) == 1:
            return parts[0]
        return [np.concatenate(each) for each in zip(*parts, strict=True)]

    @functools.cached_property
    def _rows_per_prediction(self) -> int:
        """Number of rows per prediction step: enough to be fast, and few enough for memory."""
        widest = max(_list_widths(self._model), default=1)
        return max(_MIN_ROWS, min(_MAX_ROWS, _VALUES_PER_STEP // widest))

    @functools.cached_property
    def _predict(self) -> Any:
        """Compiled inference function for any number of rows.

        For a small network, the overhead of Keras' ``predict`` takes longer than the computation.
        """

        def predict(inputs: list[Any]) -> list[Any]:
            outputs = self._model(inputs[0] if len(inputs) == 1 else inputs, training=False)
            return list(outputs) if isinstance(outputs, list | tuple) else [outputs]

        signature = [list(map(_make_spec, self._model.inputs))]
        compiled = tf.function(predict, input_signature=signature, autograph=False)
        with tracing_scope(self._model), _clear_layer_losses(self._model):
            return compiled.get_concrete_function()

    def _run(
        self,
        name: str,
        step: Callable[[Any], None],
        shard: ShardData,
        seed: int | None,
        passes: int = 1,
    ) -> list[MetricVariables]:
        self._model.reset_metrics()
        batch_size = tf.constant(self._batch_size, tf.int64)
        for data, order in self._tensor_chunks(shard, self._batch_size, seed, passes):
            if name not in self._loops:
                build_metrics(self._model, *data[:2])
                self._weigh_losses_by_rows()
                self._loops[name] = self._make_loop(step, data)
            self._loops[name](data, tf.constant(order, tf.int64), batch_size)
            del data, order  # frees their memory before the next chunk is read
            self._check_loss(name)
        return [read_metric_variables(self._model)]

    def _train_step(self, data: tuple[Any, ...]) -> None:
        with self._regularization.step():
            logs = self._model.train_step(add_row_weights(data, self._class_weights))
        self._check_logs(logs)

    def _test_step(self, data: tuple[Any, ...]) -> None:
        self._check_logs(self._model.test_step(add_row_weights(data, None)))

    def _check_logs(self, logs: Any) -> None:
        """Raise ArgumentError if a custom step returns values other than the compiled metrics."""
        known = keras.Model.get_metrics_result(self._model)
        extra = sorted(set(_list_names(logs)) - set(known))
        if extra:
            raise ArgumentError(
                f"cannot report {', '.join(extra)}: {type(self._model).__name__} computes it "
                "itself, and only the metrics of compile() are merged over partitions; pass a "
                "metric to compile()"
            )

    def _check_loss(self, step: str) -> None:
        """Raise ArgumentError if a custom step does not record the loss, which would then be 0."""
        is_custom = getattr(type(self._model), step) is not getattr(keras.Model, step)
        if is_custom and float(compat.loss_tracker(self._model).count.numpy()) == 0:
            raise ArgumentError(
                f"cannot report the loss: {type(self._model).__name__}.{step} does not update "
                "self.metrics; update the metric named 'loss' with it, as Keras' step does"
            )

    def _make_loop(self, step: Callable[[Any], Any], data: tuple[Any, ...]) -> Any:
        """Return a function that runs ``step`` on all batches in order; compile it unless eager."""

        def loop(data: tuple[Any, ...], order: Any, batch_size: Any) -> None:
            self.traces += bool(tf.inside_function())
            rows = tf.shape(order, out_type=tf.int64)[0]

            def body(start: Any) -> Any:
                batch = order[start : tf.minimum(start + batch_size, rows)]
                self._step_rows = tf.shape(batch)[0]
                step(tf.nest.map_structure(lambda value: tf.gather(value, batch), data))
                self._steps.assign_add(1)
                return [start + batch_size]

            zero = tf.constant(0, tf.int64)
            self._updates.begin()
            tf.while_loop(lambda start: start < rows, body, [zero], parallel_iterations=1)
            self._updates.end()

        def scoped(function: Callable[..., Any], *arguments: Any) -> Any:
            try:
                with tracing_scope(self._model), _clear_layer_losses(self._model):
                    return function(*arguments)
            finally:
                self._step_rows = None

        if self._eager:
            return functools.partial(scoped, loop)
        signature = [
            tf.nest.map_structure(_make_spec, data),
            tf.TensorSpec((None,), tf.int64),
            tf.TensorSpec((), tf.int64),
        ]
        compiled = tf.function(loop, input_signature=signature, autograph=False)
        return scoped(compiled.get_concrete_function)

    def _weigh_losses_by_rows(self) -> None:
        """Make each output's reported loss a mean over rows, if there are several outputs.

        Keras weights a batch by its size only if the size is known during tracing. Here it is
        unknown, so a small last batch would count as much as a full batch.
        """
        compiled = compat.compiled_loss(self._model)
        for tracker in compiled.metrics if compiled is not None else ():
            if "update_state" not in vars(tracker):
                tracker.update_state = functools.partial(self._update_by_rows, tracker.update_state)

    def _update_by_rows(self, update: Callable[..., Any], value: Any, sample_weight: Any) -> Any:
        rows = sample_weight if self._step_rows is None else self._step_rows
        return update(value, sample_weight=rows)


def _make_spec(tensor: Any) -> tf.TensorSpec:
    return tf.TensorSpec((None, *tensor.shape[1:]), tensor.dtype)


def _list_names(logs: Any) -> Iterator[str]:
    """Yield the metric names in a step's logs, including those in nested dicts."""
    for name, value in logs.items() if isinstance(logs, dict) else ():
        if isinstance(value, dict):
            yield from _list_names(value)
        else:
            yield name


def _list_widths(model: Any) -> Iterator[int]:
    """Yield, for each tensor in a network, its number of values per row."""
    for layer in compat.flatten_layers(model):
        for node in compat.inbound_nodes(layer):
            for tensor in node.output_tensors:
                yield math.prod(size or 1 for size in tensor.shape[1:])


@contextlib.contextmanager
def _clear_layer_losses(model: Any) -> Iterator[None]:
    """Return a context manager that clears, at its end, the losses that layers added in tracing.

    Layers keep these tensors until their next call, and the tensors would keep the graph in memory.
    """
    try:
        yield
    finally:
        compat.clear_layer_losses(model)


def build_metrics(model: Any, x: Any, y: Any) -> None:
    """Build the variables of a model's loss and metrics without running the network.

    Keras would create them in the first step. Inside ``tf.function``, the step would then be traced
    twice, and a search over small networks spends most of its time on tracing. Losses that layers
    add have no variables, so only the compiled loss is built, if there is one.

    Args:
        model: Compiled model.
        x: Input tensors with at least one row: one tensor, or a list if there are several inputs.
        y: Label tensors with at least one row, likewise.
    """
    one_row = tf.nest.map_structure(lambda value: value[:1], (x, y))
    outputs = [tf.zeros((1, *tensor.shape[1:]), tensor.dtype) for tensor in model.outputs]
    predictions = outputs[0] if len(outputs) == 1 else outputs
    compiled = compat.compiled_loss(model)
    if compiled is not None:
        compiled(one_row[1], predictions)
    model.compute_metrics(one_row[0], one_row[1], predictions)
    model.reset_metrics()


def read_metric_variables(model: Any) -> MetricVariables:
    """Return the values of a model's metric variables, with the loss first."""
    return tuple(
        tuple(np.ravel(variable.numpy()).astype(float).tolist())
        for variable in model.metrics_variables
    )


def _to_tensors(chunk: Chunk) -> tuple[Any, ...]:
    """Convert a chunk to tensors ``(x, y[, sample weights])``; several x or y form a list."""
    x = [tf.constant(array) for array in chunk.x]
    y = [tf.constant(array) for array in chunk.y]
    weights = () if chunk.weights is None else (tf.constant(chunk.weights),)
    return x[0] if len(x) == 1 else x, y[0] if len(y) == 1 else y, *weights
