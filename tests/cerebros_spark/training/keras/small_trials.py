"""Small trials, and their training by Keras for comparison."""

from __future__ import annotations

import functools
import gc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np

from cerebros_spark.core.seeding import derive_seed
from cerebros_spark.core.types import TrialSpec
from cerebros_spark.data.layout import default_layout
from cerebros_spark.data.prepare_arrays import prepare_arrays
from cerebros_spark.data.shards import ShardData, open_shard
from cerebros_spark.storage.local import LocalStore
from cerebros_spark.training.keras.checkpoint import StateVariables, get_initial_state
from cerebros_spark.training.keras.dropout_masks import draw_short_masks
from cerebros_spark.training.keras.metrics import MetricsMerger
from cerebros_spark.training.keras.scopes import seeded_initializers
from cerebros_spark.training.keras.serialization import deserialize_model, serialize_model
from cerebros_spark.training.keras.trainer import KerasProgram, KerasTrainer

BATCH = 16


def columns(rows: int = 107) -> dict[str, np.ndarray]:
    """Two features, a label of each kind, and a weight for each row."""
    rng = np.random.default_rng(0)
    first, second = rng.normal(size=(rows, 3)), rng.normal(size=(rows, 2))
    return {
        "a": first,
        "b": second,
        "price": first.sum(axis=1) + rng.normal(size=rows) / 10,
        "sold": (second[:, 0] > 0).astype("int32"),
        "kind": np.digitize(first[:, 0], [-0.5, 0.5]).astype("int64"),
        "one_hot": np.eye(3)[np.digitize(first[:, 0], [-0.5, 0.5])],
        "weight": np.where(np.arange(rows) % 7 == 0, 0.0, rng.uniform(0.1, 3.0, rows)),
    }


class Data:
    """Prepared data in two partitions, opened for models with these inputs and outputs."""

    def __init__(self, folder: Path, features: list[str], labels: list[str], **more: Any) -> None:
        self.store = LocalStore(folder)
        self.manifest = prepare_arrays(
            columns(), self.store, feature_columns=features, label_columns=labels,
            validation=0.3, partitions=2, **more,
        )  # fmt: skip
        self.layout = default_layout(self.manifest, inputs=len(features), outputs=len(labels))

    def open(self, shard: Any, memory: int = 2**20) -> ShardData:
        return open_shard(self.store, shard, self.manifest, self.layout, memory)

    @property
    def train(self) -> list[ShardData]:
        return [self.open(shard) for shard in self.manifest.train]

    @property
    def validation(self) -> list[ShardData]:
        return [self.open(shard) for shard in self.manifest.validation]


def network(optimizer: Any = "sgd", loss: Any = "mse", layers: Any = (), **more: Any) -> Any:
    """Three numbers in, one out."""
    with seeded_initializers(7):
        inputs = keras.Input((3,))
        hidden = keras.layers.Dense(6, activation="elu", name="hidden")(inputs)
        for layer in layers:
            hidden = layer(hidden)
        model = keras.Model(inputs, keras.layers.Dense(1, name="price")(hidden))
    model.compile(optimizer=optimizer, loss=loss, **more)
    return model


def opened(
    model: Any, batch_size: int = BATCH, program: str | None = None, **options: Any
) -> KerasProgram:
    spec = TrialSpec("t", 0, "keras", program or serialize_model(model), 0, 9, batch_size)
    made = KerasTrainer(**options).open([spec])
    made.load([get_initial_state(model)])
    return made


def reference(model: Any, *, eager: bool = True) -> Any:
    """Return a copy of a model with the same state, for Keras to train.

    Eager: to trace a step takes longer than a dozen steps. Traced, its results are those of a
    program to the last bit.
    """
    rebuilt = restored(model, get_initial_state(model))
    draw_short_masks(rebuilt)  # as a program does: Keras would drop other values
    rebuilt.run_eagerly = eager
    return rebuilt


def restored(model: Any, state: bytes) -> Any:
    """Return a model of the same kind with a state."""
    rebuilt = deserialize_model(serialize_model(model))
    StateVariables(rebuilt).write(state)
    return rebuilt


def seed_generators(model: Any, seed: int) -> None:
    """Set a model's random generators as a unit with this seed does."""
    generators = [v for v in model.variables if v.path.endswith("seed_generator_state")]
    for number, generator in enumerate(generators):
        generator.assign(np.array([derive_seed(seed, "generator", number), 0], np.uint32))


def keras_loop(model: Any, shard: ShardData, seed: int, **more: Any) -> None:
    """Train one unit with Keras."""
    seed_generators(model, seed)
    for chunk in shard.chunks(BATCH, derive_seed(seed, "order")):
        for start in range(0, len(chunk.order), BATCH):
            rows = chunk.order[start : start + BATCH]
            x, y = [each[rows] for each in chunk.x], [each[rows] for each in chunk.y]
            model.train_on_batch(x[0] if len(x) == 1 else x, y[0] if len(y) == 1 else y, **more)


def everything(model: Any) -> list[np.ndarray]:
    """Return all variables of a model and its optimizer."""
    return [np.array(v) for v in (*model.variables, *model.optimizer.variables)]


def check_same_variables(model: Any, wanted: Any) -> None:
    """Check that all variables equal another model's."""
    for got, each in zip(everything(model), everything(wanted), strict=True):
        # TensorFlow may arrange arithmetic differently in a loop, so the last bit is left out.
        np.testing.assert_allclose(got, each, rtol=1e-5, atol=1e-6)


def merged(model: Any, data: Data, states: list[Any]) -> dict[str, float]:
    """Return the merged metrics of units."""
    columns = [data.manifest.column(group[0]) for group in data.layout.outputs]
    labels = tuple(((column.width,), column.dtype) for column in columns)
    return _merger(serialize_model(model), labels).merge([states])[0]


@functools.lru_cache(maxsize=4)
def _merger(program: str, labels: tuple[Any, ...]) -> MetricsMerger:
    """A test merges several times with what was traced once."""
    return MetricsMerger(program, labels)


def evaluated(model: Any, data: Data, program: KerasProgram | None = None) -> dict[str, float]:
    """Return the merged metrics of all validation rows."""
    program = program or opened(model)
    return merged(model, data, [program.evaluate(shard)[0] for shard in data.validation])


def rows_of(shards: list[ShardData]) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Return the inputs and labels of all shards."""
    chunks = [chunk for shard in shards for chunk in shard.chunks(BATCH, None)]
    return (
        [np.concatenate(parts) for parts in zip(*(c.x for c in chunks), strict=True)],
        [np.concatenate(parts) for parts in zip(*(c.y for c in chunks), strict=True)],
    )


def evaluated_by_keras(model: Any, data: Data, batch_size: int = BATCH) -> dict[str, float]:
    """Return what :func:`evaluated` must equal."""
    x, y = rows_of(data.validation)
    model.run_eagerly = True
    return model.evaluate(
        x[0] if len(x) == 1 else x,
        y[0] if len(y) == 1 else y,
        batch_size=batch_size,
        verbose=0,
        return_dict=True,
    )


def hopped(
    model: Any,
    data: Data,
    check: Callable[[Any, Any], None] = check_same_variables,
    *,
    eager: bool = True,
) -> tuple[Any, Any]:
    """The model after a unit on each of two workers, and after the same two by Keras alone.

    That one worker does the same as the two is looked at here, bit by bit where the first one goes
    back to the state between. The other one, which has nothing but that state, is eager, as Keras
    is: tracing takes longer. Where rounding counts, it is left out, and Keras is traced.
    """
    stays, by_keras = opened(model), reference(model, eager=eager)
    assert by_keras.optimizer.get_config() == model.optimizer.get_config()
    one, other = data.train
    stays.train(one, [1])
    between = stays.dump()
    stays.train(other, [2])
    after = stays.dump()
    stays.load(between)
    stays.train(other, [2])
    assert stays.dump() == after != between
    assert between[0] != get_initial_state(model)
    assert stays.traces == 1
    trained = restored(model, after[0])
    if eager:
        hops = opened(model, eager=True)
        hops.load(between)
        hops.train(other, [2])
        check(restored(model, hops.dump()[0]), trained)
    keras_loop(by_keras, one, 1)
    keras_loop(by_keras, other, 2)
    return trained, by_keras


def graphs() -> int:
    """Return the number of TensorFlow's graphs."""
    gc.collect()
    return sum("FuncGraph" in type(each).__name__ for each in gc.get_objects())
