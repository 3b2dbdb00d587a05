#!/usr/bin/env python3
"""Make click data in the shape of Criteo's, with a known signal: any number of rows, as Parquet.

A row has a label, 13 counts (I1 … I13) and 26 categories (C1 … C26, hexadecimal words), both with
missing values. A category's frequency falls with its rank, as in Criteo's table. Clicks are drawn
from probabilities that depend on some columns and on pairs of columns, so no linear model reaches
the ceiling. The column ``probability`` is the true model's and not a feature. Its AUC, which no
model can beat in the long run, is printed and written to OUT/_truth.json.

Rows are made and written in pieces. A piece depends on its number and the seed alone.
"""

from __future__ import annotations

import argparse
import dataclasses
import functools
import json
import os
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from cerebros_spark.core.seeding import derive_seed

NUMBERS = [f"I{number}" for number in range(1, 14)]
CATEGORIES = [f"C{number}" for number in range(1, 27)]

# Criteo's numbers of categories, limited to 100,000.
SIZES = (1460, 583, 10**5, 10**5, 305, 24, 12517, 633, 3, 93145, 5683, 10**5, 3194, 27, 14992,
         10**5, 10, 5652, 2173, 4, 10**5, 18, 15, 10**5, 105, 10**5)  # fmt: skip
CLICK_RATE = 0.256
PIECE_ROWS = 100_000

# Columns that come in pairs: the effect of one depends on the other.
_PAIRS = (("C5", "C8"), ("C6", "C14"), ("C2", "C25"), ("C17", "C22"))
_BINS = 2**16


def main() -> None:
    """Write the data and print the true model's AUC."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("out", metavar="OUT", type=Path, help="a folder that does not exist yet")
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    if args.rows < 1:
        parser.error(f"--rows must be 1 or more, but got {args.rows}")
    if args.out.exists():
        parser.error(f"OUT: {args.out} exists; remove it, or choose another folder")
    print(json.dumps(make(args.out, args.rows, args.seed), indent=1))


def make(out: Path, rows: int, seed: int) -> dict[str, Any]:
    """Write the data; leave nothing behind on failure.

    Args:
        out: Folder of the Parquet files; it must not exist.
        rows: Number of rows.
        seed: Seed of the true model and of the rows.

    Returns:
        The content of ``_truth.json``: rows, seed, click_rate and the true model's auc.

    Raises:
        FileExistsError: If the folder exists.
    """
    if out.exists():
        raise FileExistsError(f"cannot write {out}: it exists")
    partial = out.with_name(f"{out.name}.partial-{os.getpid()}")
    partial.mkdir(parents=True)
    try:
        truth = _write(partial, rows, seed)
        (partial / "_truth.json").write_text(json.dumps(truth) + "\n")
        partial.rename(out)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise
    return truth


def _write(folder: Path, rows: int, seed: int) -> dict[str, Any]:
    model = TrueModel.drawn(seed)
    # Counts of both labels by the true probability, in narrow bins.
    counts = np.zeros((2, _BINS), np.int64)
    for piece, start in enumerate(range(0, rows, PIECE_ROWS)):
        table = model.rows(piece, min(PIECE_ROWS, rows - start))
        pq.write_table(table, folder / f"part-{piece:05d}.parquet", compression="snappy")
        bins = (table["probability"].to_numpy() * _BINS).astype(np.int64)
        labels = table["label"].to_numpy()
        for label in (0, 1):
            counts[label] += np.bincount(bins[labels == label], minlength=_BINS)
    return {
        "rows": rows,
        "seed": seed,
        "click_rate": float(counts[1].sum() / rows),
        "auc": auc(counts[0], counts[1]),
    }


def auc(negatives: np.ndarray, positives: np.ndarray) -> float:
    """Return the area under the ROC curve of a score, from its counts in ascending bins."""
    below = np.cumsum(negatives) - negatives
    pairs = (positives * (below + negatives / 2)).sum()
    return float(pairs / (float(negatives.sum()) * float(positives.sum())))


@dataclass(frozen=True, eq=False)
class TrueModel:
    """The model that gives the probability of a click.

    Attributes:
        seed: Its seed.
        locations: Mean of each count's logarithm.
        missing: Share of missing values of each column, counts first.
        slopes: Coefficient of each count's bent logarithm in the logit.
        effects: For each categorical column the effect of each category; 0 for a missing one.
        factors: For each pair of columns a factor for each category of either.
        intercept: Intercept that gives the click rate.
    """

    seed: int
    locations: np.ndarray
    missing: np.ndarray
    slopes: np.ndarray
    effects: list[np.ndarray]
    factors: list[tuple[np.ndarray, np.ndarray]]
    intercept: float = 0.0

    @classmethod
    def drawn(cls, seed: int) -> TrueModel:
        """Return the model of a seed."""
        rng = np.random.default_rng(derive_seed(seed, "model"))
        # Half of the columns have an effect, those with few categories.
        strengths = [0.3 if number % 2 and size < 20_000 else 0.0
                     for number, size in enumerate(SIZES)]  # fmt: skip
        drawn = cls(
            seed=seed,
            locations=rng.uniform(0.5, 4, len(NUMBERS)),
            missing=np.concatenate([rng.uniform(0, 0.4, 13), rng.uniform(0, 0.1, 26)]),
            slopes=rng.normal(size=len(NUMBERS)) * 0.5,
            effects=[s * rng.normal(size=size) for s, size in zip(strengths, SIZES, strict=True)],
            factors=[
                tuple(rng.normal(size=SIZES[CATEGORIES.index(name)]) for name in pair)
                for pair in _PAIRS
            ],
        )
        return drawn._centred()

    def rows(self, piece: int, count: int) -> pa.Table:
        """Return the first ``count`` rows of a piece, as a table."""
        rng = np.random.default_rng(derive_seed(self.seed, "piece", piece))
        numbers, ranks = self._features(rng)
        probability = 1 / (1 + np.exp(-self._logits(numbers, ranks) - self.intercept))
        label = (rng.random(PIECE_ROWS) < probability).astype(np.int32)
        columns: dict[str, Any] = {"label": label[:count], "probability": probability[:count]}
        for name, value in zip(NUMBERS, numbers, strict=True):
            column = value[:count]
            columns[name] = pa.array(column, pa.int32(), mask=column < 0)
        for name, rank in zip(CATEGORIES, ranks, strict=True):
            words = _words(name, SIZES[CATEGORIES.index(name)])
            columns[name] = words.take(pa.array(rank[:count], mask=rank[:count] < 0))
        return pa.table(columns)

    def _features(self, rng: np.random.Generator) -> tuple[np.ndarray, list[np.ndarray]]:
        """Return counts and ranks of categories of a whole piece; missing ones are -1."""
        logs = self.locations[:, None] + rng.normal(size=(len(NUMBERS), PIECE_ROWS))
        numbers = np.floor(np.exp(logs)).astype(np.int32)
        # The logarithm of the rank is uniform, so frequency falls as one over rank.
        ranks = [
            (np.exp(rng.random(PIECE_ROWS) * np.log(size + 1)) - 1).astype(np.int32)
            for size in SIZES
        ]
        for column, share in zip([*numbers, *ranks], self.missing, strict=True):
            column[rng.random(PIECE_ROWS) < share] = -1
        return numbers, ranks

    def _logits(self, numbers: np.ndarray, ranks: list[np.ndarray]) -> np.ndarray:
        logits = np.zeros(PIECE_ROWS)
        for number, column in enumerate(numbers):
            depth = np.log1p(np.maximum(column, 0)) - self.locations[number]
            # Every other count has its effect by its distance from the mean.
            bent = np.tanh(depth) if number % 2 else np.exp(-(depth**2)) - 0.6
            logits += self.slopes[number] * np.where(column < 0, 0, bent)
        for rank, effect in zip(ranks, self.effects, strict=True):
            logits += np.where(rank < 0, 0, effect[rank])
        for pair, factors in zip(_PAIRS, self.factors, strict=True):
            product = np.full(PIECE_ROWS, 0.5)
            for name, factor in zip(pair, factors, strict=True):
                rank = ranks[CATEGORIES.index(name)]
                product *= np.where(rank < 0, 0, factor[rank])
            logits += product
        return logits

    def _centred(self) -> TrueModel:
        """Return the model with the intercept that gives the click rate."""
        rng = np.random.default_rng(derive_seed(self.seed, "intercept"))
        logits = self._logits(*self._features(rng))
        low, high = -20.0, 20.0
        for _ in range(50):
            middle = (low + high) / 2
            rate = (1 / (1 + np.exp(-logits - middle))).mean()
            low, high = (middle, high) if rate < CLICK_RATE else (low, middle)
        return dataclasses.replace(self, intercept=(low + high) / 2)


@functools.cache
def _words(name: str, size: int) -> pa.Array:
    """Return the words of a column's categories, by rank: eight hexadecimal digits each."""
    # Multiplication by an odd number modulo a power of two repeats no word.
    offset = derive_seed(0, name)
    return pa.array([f"{(rank * 2654435761 + offset) % 2**32:08x}" for rank in range(size)])


if __name__ == "__main__":
    sys.path.insert(0, os.path.dirname(__file__))
    main()
