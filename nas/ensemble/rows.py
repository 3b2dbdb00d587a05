"""A search's training and validation rows by fold, loaded into the driver's memory on demand."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np

from cerebros_spark.core.types import Phase, TrialSpec
from cerebros_spark.data.folds import FoldShards
from cerebros_spark.data.manifest import Layout, Manifest, Shard
from cerebros_spark.data.shards import ShardData, open_shard
from cerebros_spark.storage.store import Store

MOST_ROWS = 200_000
"""Maximum number of training rows, or of validation rows, that are read for one fold."""


class Rows(NamedTuple):
    """Rows in memory.

    Attributes:
        x: An array of shape ``(rows, ...)`` for each input.
        y: An array of shape ``(rows, width)`` for each output.
        weights: Sample weights of shape ``(rows,)``; None if the data has none.
    """

    x: list[np.ndarray]
    y: list[np.ndarray]
    weights: np.ndarray | None


@dataclass(frozen=True)
class FoldRows:
    """Rows of a search by fold, read from the store on demand.

    Attributes:
        store: Store of the run.
        manifest: Description of the prepared data.
        layout: Columns of inputs and outputs.
        folds: Number of cross-validation folds; 1 if there is only one validation split.
    """

    store: Store
    manifest: Manifest
    layout: Layout
    folds: int

    def read(self, phase: Phase, fold: int) -> Rows:
        """Read the training or validation rows of a fold, up to :data:`MOST_ROWS` of them."""
        spec = TrialSpec("", 0, "keras", "", 0, 1, 1, fold=fold, folds=self.folds)
        share = max(1, MOST_ROWS // len(self._partitions))
        chunks = [
            next(iter(shards.get(phase, spec).chunks(share, None))) for shards in self._partitions
        ]
        x = zip(*([each[:share] for each in chunk.x] for chunk in chunks), strict=True)
        y = zip(*([each[:share] for each in chunk.y] for chunk in chunks), strict=True)
        weights = [chunk.weights[:share] for chunk in chunks if chunk.weights is not None]
        return Rows(
            [np.concatenate(each) for each in x],
            [np.concatenate(each) for each in y],
            np.concatenate(weights) if weights else None,
        )

    @cached_property
    def held_out(self) -> list[Rows]:
        """Validation rows of each fold."""
        return [self.read(Phase.VALIDATE, fold) for fold in range(self.folds)]

    def get_labels(self, folds: int) -> list[np.ndarray]:
        """Return each output's labels for the validation rows of the first ``folds`` folds."""
        parts = zip(*(rows.y for rows in self.held_out[:folds]), strict=True)
        return [np.concatenate(each) for each in parts]

    def get_weights(self, folds: int) -> np.ndarray | None:
        """Return the sample weights of the validation rows of the first ``folds`` folds.

        Return None if the data has no sample weights.
        """
        weights = [rows.weights for rows in self.held_out[:folds] if rows.weights is not None]
        return np.concatenate(weights) if weights else None

    @cached_property
    def _partitions(self) -> list[FoldShards]:
        return [
            FoldShards(self._make_opener(train, validation))
            for train, validation in zip(self.manifest.train, self.manifest.validation, strict=True)
        ]

    def _make_opener(self, train: Shard, validation: Shard) -> Callable[[Phase], ShardData]:
        shards = {Phase.TRAIN: train, Phase.VALIDATE: validation}

        def open_phase(phase: Phase) -> ShardData:
            # With folds, all rows must be in memory. Otherwise the first chunk is enough.
            row_bytes = sum(column.row_bytes for column in self.manifest.columns)
            budget = 2**62 if self.folds > 1 else 16 * row_bytes * MOST_ROWS
            return open_shard(self.store, shards[phase], self.manifest, self.layout, budget)

        return open_phase
