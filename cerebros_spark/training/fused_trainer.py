"""Trains Cerebros networks many at a time, each as it would be trained alone."""

from __future__ import annotations

import dataclasses
import functools
import json
import operator
import weakref
from collections.abc import Iterable, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from cerebros_spark.data.shards import Chunk, ShardData
from cerebros_spark.errors import ArgumentError
from cerebros_spark.training.fused.program import Compiled, FusedProgram, Rows, whole_batches
from cerebros_spark.training.fused.reading import Network, Recipe, read
from cerebros_spark.training.fused.shapes import Shape
from cerebros_spark.training.fused.states import StateMap
from cerebros_spark.training.weights import class_weights, row_weights
from cerebros_spark.types import TrialSpec

#: Networks of a call. To call what is compiled, on its own, takes as long as several steps.
SLOTS = 8


@dataclasses.dataclass(frozen=True)
class _Opened:
    """A trial as it is known here."""

    recipe: Recipe
    network: Network
    shape: Shape | None
    maps: dict[Shape, StateMap] = dataclasses.field(default_factory=dict)


class FusedTrainer:
    """Opens trials as networks of one group. What is compiled for a shape stays.

    Args:
        slots: Networks that one compiled call advances.
    """

    resident = False

    def __init__(self, slots: int = SLOTS) -> None:
        self._slots = slots
        self._compiled: dict[tuple[Recipe, Shape, int], Compiled] = {}
        self._opened: dict[str, _Opened] = {}
        self._rows: weakref.WeakKeyDictionary[ShardData, dict[Any, Rows]] = (
            weakref.WeakKeyDictionary()
        )

    def open(self, specs: Sequence[TrialSpec]) -> FusedProgram:
        """Fits the networks into one shape.

        Raises:
            UnreadableError: If one can't be fused.
            ArgumentError: If they have more than their wirings and weights to tell them apart.
        """
        opened = [self._read(spec) for spec in specs]
        first = opened[0]
        kinds = {(each.recipe, each.shape, spec.batch_size)
                 for each, spec in zip(opened, specs, strict=True)}  # fmt: skip
        if len(kinds) > 1:
            raise ArgumentError("these trials differ in more than their wirings")
        shape = first.shape or _covering(each.network for each in opened)
        key = first.recipe, shape, specs[0].batch_size
        if key not in self._compiled:
            self._compiled[key] = Compiled(first.recipe, shape, specs[0].program, key[-1])
        compiled = self._compiled[key]
        for each in opened:
            if shape not in each.maps:
                each.maps[shape] = StateMap(each.recipe, each.network, compiled)
        weights = class_weights(specs[0].program)

        def rows(shard: ShardData, chunk: Chunk, training: bool) -> Rows:
            return self._rows_of(shard, chunk, compiled, weights if training else None, training)

        return FusedProgram([each.maps[shape] for each in opened], compiled, self._slots, rows)

    def tidy(self, trial_ids: Sequence[str]) -> None:
        """Forgets trials; what is compiled serves those to come."""
        for trial_id in trial_ids:
            self._opened.pop(trial_id, None)

    def _read(self, spec: TrialSpec) -> _Opened:
        if spec.trial_id not in self._opened:
            told = json.loads(spec.program).get("fused")
            shape = None if told is None else Shape.from_json(told)
            self._opened[spec.trial_id] = _Opened(*read(spec.program), shape)
        return self._opened[spec.trial_id]

    def _rows_of(
        self,
        shard: ShardData,
        chunk: Chunk,
        compiled: Compiled,
        by_class: np.ndarray | None,
        training: bool,
    ) -> Rows:
        """A chunk's rows as tensors; a resident shard's are made once."""
        if not shard.resident:
            return _made(chunk, compiled, by_class, training)
        known = self._rows.setdefault(shard, {})
        key = compiled.recipe, compiled.batch_size, training
        if key not in known:
            known[key] = _made(chunk, compiled, by_class, training)
        return known[key]


def _covering(networks: Iterable[Network]) -> Shape:
    """A shape for networks whose programs name none."""
    return functools.reduce(operator.or_, map(Shape.of, networks)).roomy()


def _made(chunk: Chunk, compiled: Compiled, by_class: np.ndarray | None, training: bool) -> Rows:
    rows = len(chunk.order)
    more = whole_batches(rows, compiled.batch_size, training) - rows

    def padded(values: Any) -> Any:
        return tf.pad(values, [[0, more], *[[0, 0]] * (len(values.shape) - 1)])

    dtype = compiled.recipe.dtype
    inputs = [
        _prepared(each, layers, dtype)
        for each, layers in zip(chunk.x, compiled.recipe.inputs, strict=True)
    ]
    weights = row_weights(chunk.y[0], chunk.weights, by_class)
    return Rows(
        padded(tf.concat(inputs, axis=1)),
        tuple(padded(tf.constant(each)) for each in chunk.y),
        None if weights is None else padded(tf.cast(tf.reshape(weights, (-1,)), dtype)),
    )


def _prepared(values: np.ndarray, layers: str, dtype: str) -> Any:
    """What an input is when units read it: flat floats."""
    told = tf.constant(values)
    for kind, config in json.loads(layers):
        if kind == "InputLayer":
            told = tf.cast(told, config["dtype"])
            continue
        told = getattr(keras.layers, kind).from_config(config)(told)
    return tf.cast(tf.reshape(told, (len(values), -1)), dtype)
