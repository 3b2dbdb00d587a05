"""Trains Cerebros networks many at a time, each as it would be trained alone."""

from __future__ import annotations

import json
import weakref
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from cerebros_spark.data.shards import Chunk, ShardData
from cerebros_spark.errors import ArgumentError
from cerebros_spark.training.fused.program import Compiled, FusedProgram, Rows, whole_batches
from cerebros_spark.training.fused.reading import Network, Recipe, read
from cerebros_spark.training.fused.shapes import Shape
from cerebros_spark.training.weights import class_weights
from cerebros_spark.types import TrialSpec

#: Networks of a call. More take as many times longer on a processor.
SLOTS = 4


class FusedTrainer:
    """Opens trials as networks of one group. What is compiled for a shape stays.

    Args:
        slots: Networks that one compiled call advances.
    """

    def __init__(self, slots: int = SLOTS) -> None:
        self._slots = slots
        self._compiled: dict[tuple[Recipe, int], Compiled] = {}
        self._read: dict[str, tuple[Recipe, Network]] = {}
        self._rows: weakref.WeakKeyDictionary[ShardData, dict[Any, Rows]] = (
            weakref.WeakKeyDictionary()
        )

    def open(self, specs: Sequence[TrialSpec]) -> FusedProgram:
        """Fits the networks into one shape.

        Raises:
            UnreadableError: If one can't be fused.
            ArgumentError: If they have more than their wirings and weights to tell them apart.
        """
        recipes, networks = zip(*(read(spec.program) for spec in specs), strict=True)
        batch_sizes = {spec.batch_size for spec in specs}
        if len(set(recipes)) > 1 or len(batch_sizes) > 1:
            raise ArgumentError("these trials differ in more than their wirings")
        compiled = self._covering(recipes[0], networks, specs[0])
        weights = class_weights(specs[0].program)

        def rows(shard: ShardData, chunk: Chunk, training: bool) -> Rows:
            return self._rows_of(shard, chunk, compiled, weights if training else None, training)

        return FusedProgram(specs, networks, compiled, self._slots, rows)

    def tidy(self) -> None:
        """What is compiled serves the trials to come; nothing is let go of."""

    def _covering(self, recipe: Recipe, networks: Sequence[Network], spec: TrialSpec) -> Compiled:
        """What is compiled for these networks, and those before."""
        key = recipe, spec.batch_size
        before = self._compiled.get(key)
        shape = Shape.of(networks[0]) if before is None else before.shape
        for network in networks:
            shape |= Shape.of(network)
        if before is None or shape != before.shape:
            self._compiled[key] = Compiled(recipe, shape.roomy(), spec.program, spec.batch_size)
        return self._compiled[key]

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
        key = compiled.recipe.inputs, compiled.recipe.dtype, compiled.batch_size, training
        if key not in known:
            known[key] = _made(chunk, compiled, by_class, training)
        return known[key]


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
    weights = chunk.weights
    if by_class is not None:
        classes = _classes(chunk.y[0])
        of_class = by_class[np.minimum(classes, len(by_class) - 1)]
        weights = of_class if weights is None else weights * of_class
    return Rows(
        padded(tf.concat(inputs, axis=1)),
        tuple(padded(tf.constant(each)) for each in chunk.y),
        None if weights is None else padded(tf.constant(np.ravel(weights), dtype)),
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


def _classes(y: np.ndarray) -> np.ndarray:
    if y.shape[-1] != 1:
        return y.argmax(axis=-1)
    return np.rint(y[..., 0]).astype(np.int64)
