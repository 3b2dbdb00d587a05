"""Small Cerebros networks, and their training by Keras for comparison."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import json
import operator
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import keras
import keras_tuner
import numpy as np
from safetensors import deserialize

from cerebros_spark.core.types import TrialSpec
from cerebros_spark.data.shards import Chunk
from cerebros_spark.training.fused.graph.padding import PaddedShape
from cerebros_spark.training.fused.graph.parser import parse_network
from cerebros_spark.training.keras.checkpoint import get_initial_state
from cerebros_spark.training.keras.serialization import serialize_model
from cerebros_spark.training.keras.trainer import KerasTrainer
from nas import CerebrosSpace
from nas.spaces.cerebros import CerebrosNetworks, Output

BATCH = 32
# Two whole batches and a part of one. Each number of batches is compiled by itself.
ROWS = 75


class Rows:
    """Rows in memory, as of a shard."""

    resident = True

    def __init__(
        self, x: Sequence[np.ndarray], y: Sequence[np.ndarray], weights: Any = None
    ) -> None:
        self.x, self.y, self.weights = list(x), list(y), weights
        self.rows = len(x[0])

    def chunks(self, batch_size: int, seed: int | None, passes: int = 1) -> Iterator[Chunk]:
        order = np.arange(self.rows)
        if seed is not None:
            generator = np.random.Generator(np.random.PCG64(seed))
            orders = [generator.permutation(self.rows) for _ in range(passes)]
            order = np.concatenate(orders)
        yield Chunk(self.x, self.y, order, self.weights)

    def first(self, many: int) -> Rows:
        weights = None if self.weights is None else self.weights[:many]
        return Rows([x[:many] for x in self.x], [y[:many] for y in self.y], weights)


class Streamed(Rows):
    """Rows that are read again in each pass, in two chunks."""

    resident = False

    def chunks(self, batch_size: int, seed: int | None, passes: int = 1) -> Iterator[Chunk]:
        (whole,) = super().chunks(batch_size, seed)
        for part in np.split(whole.order, [3 * batch_size]):
            x, y = [each[part] for each in self.x], [each[part] for each in self.y]
            yield Chunk(x, y, np.arange(len(part)))


def two_tables(rows: int = ROWS, seed: int = 0) -> Rows:
    """Numbers and a small grid of integers; a price and a kind."""
    rng = np.random.default_rng(seed)
    numbers = (2 * rng.normal(size=(rows, 5)) + 1).astype("float32")
    grid = rng.integers(0, 5, size=(rows, 2, 2)).astype("int32")
    price = 3 * numbers[:, :1] - numbers[:, 1:2] + 1
    kind = (grid[:, 0, :1] > 2).astype("int32") + (numbers[:, 2:3] > 1)
    return Rows([numbers, grid], [price, kind.astype("int32")])


PRICE = Output("price", 1, mean=(3.0,), variance=(4.0,), metrics=("mae", "root_mean_squared_error"))
KIND = Output("kind", 3, "softmax", loss="sparse_categorical_crossentropy", metrics=("accuracy",))


def network(number: int, optimizer: Any = "adam", **more: Any) -> keras.Model:
    """Return one of several networks of different levels, units and wirings, for both tables."""
    space = CerebrosSpace.published(
        **{
            "minimum_levels": 1,
            "maximum_levels": 2,
            "maximum_units_per_level": 2,
            "p_lateral_connection": 0.3,
            **more,
        }
    )
    networks = CerebrosNetworks(
        space,
        [(5,), (2, 2)],
        [PRICE, KIND],
        normalizations=[([1.0] * 5, [4.0] * 5), None],
        input_dtypes=["float32", "int32"],
        loss_weights=[1.0, 2.0],
        optimizer=optimizer,
    )
    hp = keras_tuner.HyperParameters()
    hp.values.update(
        {
            "cerebros/levels": space.maximum_levels - number % 2,
            "cerebros/wiring": number,
            "cerebros/units_1": 2,
        }
    )
    hp.values.update({"cerebros/units_2": 1 + number % 2, "cerebros/neurons_1_0": 1 + number % 4})
    keras.utils.set_random_seed(number)
    return networks.build(hp)


@dataclass(frozen=True)
class Trained:
    """Results of training: metric states of the last epoch, and the state."""

    metrics: Any
    validation: Any
    state: dict[str, np.ndarray]


def spec_of(
    model: keras.Model, number: int = 0, shape: PaddedShape | None = None, passes: int = 1
) -> TrialSpec:
    program = json.loads(serialize_model(model))
    if shape is not None:
        program["fused"] = dataclasses.asdict(shape)
    return TrialSpec(
        f"trial-{number}", number, "fused", json.dumps(program), 0, 1, BATCH, passes=passes
    )


def shape_of(models: Sequence[keras.Model]) -> PaddedShape:
    """Return a shape that covers all models."""
    shapes = (
        PaddedShape.from_network(parse_network(json.loads(serialize_model(model)))[1])
        for model in models
    )
    return functools.reduce(operator.or_, shapes)


def trained(
    trainer: Any,
    models: Sequence[keras.Model],
    rows: Rows,
    epochs: int = 3,
    shape: PaddedShape | None = None,
    passes: int = 1,
) -> list[Trained]:
    """Train networks together, each with its own seeds."""
    trainer.release_memory([f"trial-{number}" for number in range(len(models))])
    program = trainer.open([spec_of(model, i, shape, passes) for i, model in enumerate(models)])
    program.load([get_initial_state(model) for model in models])
    for epoch in range(epochs):
        metrics = program.train(rows, [10 * i + epoch for i in range(len(models))])
    validation = program.evaluate(rows.first(70))
    return [
        Trained(m, v, values_of(s))
        for m, v, s in zip(metrics, validation, program.dump(), strict=True)
    ]


def trained_by_keras(
    models: Sequence[keras.Model], rows: Rows, epochs: int = 3, passes: int = 1
) -> list[Trained]:
    """Train networks one by one, with the trainer of Keras models.

    Eagerly: to trace a network takes longer than these few steps.
    """
    results = []
    for number, model in enumerate(models):
        program = KerasTrainer(eager=True).open([spec_of(model, number, None, passes)])
        program.load([get_initial_state(model)])
        for epoch in range(epochs):
            metrics = program.train(rows, [10 * number + epoch])
        validation = program.evaluate(rows.first(70))
        results.append(Trained(metrics[0], validation[0], values_of(program.dump()[0])))
    return results


def values_of(state: bytes) -> dict[str, np.ndarray]:
    return {name: np.frombuffer(part["data"], name) for name, part in deserialize(state)}


def without_integers(results: Sequence[Trained]) -> list[Trained]:
    """Return results without steps and seeds."""
    return [
        dataclasses.replace(
            each, state={name: values for name, values in each.state.items() if name != "int64"}
        )
        for each in results
    ]


def assert_same(one: Sequence[Trained], other: Sequence[Trained], tolerance: float) -> None:
    """Compare within a share of the largest value of each kind."""
    for here, there in zip(one, other, strict=True):
        assert here.state.keys() == there.state.keys()
        pairs = [(here.state[name], there.state[name]) for name in here.state]
        pairs += [(here.metrics, there.metrics), (here.validation, there.validation)]
        for values, wanted in pairs:
            values, wanted = np.asarray(values, float), np.asarray(wanted, float)
            np.testing.assert_allclose(
                values, wanted, rtol=0, atol=tolerance * np.abs(wanted).max()
            )


@contextlib.contextmanager
def double_precision() -> Iterator[None]:
    """Use float64 in Keras."""
    keras.config.set_floatx("float64")
    keras.config.set_dtype_policy("float64")
    try:
        yield
    finally:
        keras.config.set_floatx("float32")
        keras.config.set_dtype_policy("float32")
