"""Cross-validation folds: which rows of a partition train a model, and which validate it.

Folds reuse the partition's prepared training and validation shards. Fold 0 validates on the
validation shard, as without folds. Every other fold validates on a block of the training shard and
trains on all other rows. The rows of a shard are stored in random order, so a block is a random
sample.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from cerebros_spark.core.errors import DataError
from cerebros_spark.core.types import Phase, TrialSpec
from cerebros_spark.data.shards import Chunk, ShardData


def find_block(rows: int, fold: int, folds: int) -> slice:
    """Return the slice of a training shard's rows that validates in a fold.

    Args:
        rows: Number of rows of the training shard.
        fold: Index of the fold, at least 1; fold 0 validates on the validation shard.
        folds: Number of folds including fold 0, at least 2.
    """
    return slice((fold - 1) * rows // (folds - 1), fold * rows // (folds - 1))


class FoldShard(ShardData):
    """In-memory shard of the rows that one phase (training or validation) of a fold reads."""

    def __init__(
        self, train: ShardData, validation: ShardData, phase: Phase, fold: int, folds: int
    ) -> None:
        if not (train.resident and validation.resident):
            raise DataError(
                "cross-validation needs the rows of a partition in memory: raise shard_memory, or "
                "use more workers"
            )
        block = find_block(train.rows, fold, folds)
        rows = _read(train)
        if phase is Phase.VALIDATE:
            self._chunk = _take(rows, np.arange(block.start, block.stop))
        else:
            others = np.r_[0 : block.start, block.stop : train.rows]
            self._chunk = _concatenate(_take(rows, others), _read(validation))
        self.resident = True
        self.rows = len(self._chunk.order)


class FoldShards:
    """Shards of one partition by phase and fold, opened at first use.

    Args:
        open_phase: Function that opens the partition's prepared shard for a phase.
    """

    def __init__(self, open_phase: Callable[[Phase], ShardData]) -> None:
        self._open_phase = open_phase
        self._shards: dict[tuple[Phase, int, int], ShardData] = {}

    def get(self, phase: Phase, spec: TrialSpec | None = None) -> ShardData:
        """Return the rows that a trial reads in a phase.

        If ``spec`` is None, the trial has no folds.

        Raises:
            DataError: If the trial's fold is not 0, and the rows do not fit into memory.
        """
        fold, folds = (spec.fold, spec.folds) if spec is not None and spec.fold else (0, 1)
        key = phase, fold, folds
        if key not in self._shards:
            if not fold:
                self._shards[key] = self._open_phase(phase)
            else:
                train, validation = self.get(Phase.TRAIN), self.get(Phase.VALIDATE)
                self._shards[key] = FoldShard(train, validation, phase, fold, folds)
        return self._shards[key]


def _read(shard: ShardData) -> Chunk:
    (chunk,) = shard.chunks(1, None)
    return chunk


def _take(chunk: Chunk, rows: np.ndarray) -> Chunk:
    return Chunk(
        [each[rows] for each in chunk.x],
        [each[rows] for each in chunk.y],
        np.arange(len(rows), dtype=np.int64),
        None if chunk.weights is None else chunk.weights[rows],
    )


def _concatenate(one: Chunk, other: Chunk) -> Chunk:
    weights = None
    if one.weights is not None and other.weights is not None:
        weights = np.concatenate([one.weights, other.weights])
    return Chunk(
        [np.concatenate(pair) for pair in zip(one.x, other.x, strict=True)],
        [np.concatenate(pair) for pair in zip(one.y, other.y, strict=True)],
        np.arange(len(one.order) + len(other.order), dtype=np.int64),
        weights,
    )
