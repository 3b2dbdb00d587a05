"""First pass over a raw table: counts, ranges, and estimates of distinct values."""

from __future__ import annotations

import io
from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from cerebros_spark.data.table.batch import RawBatch
from cerebros_spark.data.table.calendar import DAY

_SKETCH = 1024
"""Number of hashes in a sketch of distinct values; the estimate has a standard error of 3 %."""


_MOMENTS = ("present", "infinite", "least", "greatest", "mean", "squares")
_COUNTS = ("least", "greatest", "times", "missing", "letters")


@dataclass
class NumberSurvey:
    """Counts, ranges and moments of numeric columns; each attribute has one value per column.

    Attributes:
        present: Number of rows with a finite value.
        infinite: Number of rows with an infinite value.
        least: Minimum of the finite values; infinity if there are none.
        greatest: Maximum of the finite values; minus infinity if there are none.
        mean: Mean of the finite values.
        squares: Sum of the squared deviations from the mean.
    """

    present: np.ndarray
    infinite: np.ndarray
    least: np.ndarray
    greatest: np.ndarray
    mean: np.ndarray
    squares: np.ndarray

    @classmethod
    def count(cls, values: np.ndarray) -> NumberSurvey:
        """Compute the survey of a float64 matrix's columns, in which NaN is a missing value."""
        finite = np.isfinite(values)
        present = finite.sum(axis=0)
        filled = np.where(finite, values, 0.0)
        with np.errstate(over="ignore", invalid="ignore"):
            mean = filled.sum(axis=0) / np.maximum(present, 1)
            deviations = np.where(finite, values - mean, 0.0)
            squares = np.square(deviations).sum(axis=0)
        return cls(
            present,
            np.isinf(values).sum(axis=0),
            np.where(finite, values, np.inf).min(axis=0, initial=np.inf),
            np.where(finite, values, -np.inf).max(axis=0, initial=-np.inf),
            mean,
            squares,
        )

    def merge(self, other: NumberSurvey) -> NumberSurvey:
        """Return the combined survey of both sets of rows."""
        present = self.present + other.present
        with np.errstate(over="ignore", invalid="ignore"):
            share = other.present / np.maximum(present, 1)
            difference = other.mean - self.mean
            mean = self.mean + difference * share
            squares = self.squares + other.squares + difference**2 * share * self.present
        return NumberSurvey(
            present,
            self.infinite + other.infinite,
            np.minimum(self.least, other.least),
            np.maximum(self.greatest, other.greatest),
            mean,
            squares,
        )

    @property
    def deviation(self) -> np.ndarray:
        """Population standard deviation of each column."""
        deviation: np.ndarray = np.sqrt(self.squares / np.maximum(self.present, 1))
        return deviation


@dataclass
class TableSurvey:
    """Counts and ranges of all raw columns; arrays have one value per column or vector element.

    Attributes:
        rows: Number of rows.
        numbers: Survey of the number columns and of the vector elements.
        integers: Survey of the integer columns, computed in float64.
        least: Exact minimum of each integer column.
        greatest: Exact maximum of each integer column.
        times: For each integer column, the number of values that are not a multiple of a day in
            microseconds.
        missing: For each string column, the number of missing values.
        letters: For each string column, the total length of all values in characters.
        sketches: For each integer column, then for each string column, the smallest distinct hashes
            of its values, from which the number of distinct values is estimated.
    """

    rows: int
    numbers: NumberSurvey
    integers: NumberSurvey
    least: np.ndarray
    greatest: np.ndarray
    times: np.ndarray
    missing: np.ndarray
    letters: np.ndarray
    sketches: list[np.ndarray] = field(default_factory=list)

    def to_bytes(self) -> bytes:
        """Serialize the survey without using pickle."""
        arrays = {f"numbers_{n}": getattr(self.numbers, n) for n in _MOMENTS}
        arrays |= {f"integers_{n}": getattr(self.integers, n) for n in _MOMENTS}
        arrays |= {name: getattr(self, name) for name in _COUNTS}
        arrays["rows"] = np.array([self.rows])
        arrays["lengths"] = np.array([len(each) for each in self.sketches], np.int64)
        arrays["hashes"] = np.concatenate([*self.sketches, np.empty(0, np.uint64)])
        sink = io.BytesIO()
        np.savez(sink, **arrays)
        return sink.getvalue()

    @classmethod
    def from_bytes(cls, data: bytes) -> TableSurvey:
        """Read a survey written by :meth:`to_bytes`."""
        with np.load(io.BytesIO(data), allow_pickle=False) as arrays:
            return cls(
                int(arrays["rows"][0]),
                NumberSurvey(**{name: arrays[f"numbers_{name}"] for name in _MOMENTS}),
                NumberSurvey(**{name: arrays[f"integers_{name}"] for name in _MOMENTS}),
                **{name: arrays[name] for name in _COUNTS},
                sketches=np.split(arrays["hashes"], np.cumsum(arrays["lengths"]))[:-1],
            )

    @classmethod
    def count(cls, batch: RawBatch) -> TableSurvey:
        """Compute the survey of a batch's rows."""
        known = ~batch.missing
        limits = np.iinfo(np.int64)
        integers, strings = batch.integers, batch.strings
        floats = np.where(known, integers.astype(np.float64), np.nan)
        return cls(
            batch.rows,
            NumberSurvey.count(batch.numbers),
            NumberSurvey.count(floats),
            np.where(known, integers, limits.max).min(axis=0, initial=limits.max),
            np.where(known, integers, limits.min).max(axis=0, initial=limits.min),
            (known & (integers % DAY != 0)).sum(axis=0),
            np.array([each.null_count for each in strings], np.int64),
            np.array([pc.sum(pc.utf8_length(s)).as_py() or 0 for s in strings], np.int64),
            [
                *(_sketch(_hash_integers(v[k])) for v, k in zip(integers.T, known.T, strict=True)),
                *(_sketch(_hash_strings(each)) for each in strings),
            ],
        )

    def merge(self, other: TableSurvey) -> TableSurvey:
        """Return the combined survey of both sets of rows."""
        return TableSurvey(
            self.rows + other.rows,
            self.numbers.merge(other.numbers),
            self.integers.merge(other.integers),
            np.minimum(self.least, other.least),
            np.maximum(self.greatest, other.greatest),
            self.times + other.times,
            self.missing + other.missing,
            self.letters + other.letters,
            [
                _sketch(np.concatenate(pair))
                for pair in zip(self.sketches, other.sketches, strict=True)
            ],
        )


def survey_batches(batches: Iterable[RawBatch]) -> TableSurvey | None:
    """Return the combined survey of batches of rows; None if there are no batches."""
    total = None
    for batch in batches:
        part = TableSurvey.count(batch)
        total = part if total is None else total.merge(part)
    return total


def estimate_distinct(sketch: np.ndarray) -> int:
    """Estimate the number of distinct values from a sketch (Bar-Yossef et al., 2002).

    The number is exact below 1,024.
    """
    if len(sketch) < _SKETCH:
        return len(sketch)
    return int((_SKETCH - 1) / (float(sketch[-1]) / 2.0**64))


def _sketch(hashes: np.ndarray) -> np.ndarray:
    """Return the smallest distinct hashes, ascending.

    Each hash must occur in ``hashes`` at most twice.
    """
    if len(hashes) > 2 * _SKETCH:  # sorting all of them takes longer
        hashes = np.partition(hashes, 2 * _SKETCH)[: 2 * _SKETCH]
    return np.unique(hashes)[:_SKETCH]


def _hash_integers(values: np.ndarray) -> np.ndarray:
    """Hash integers with the finalizer of SplitMix64 (Steele et al., 2014)."""
    hashes = np.unique(values).view(np.uint64) + np.uint64(0x9E3779B97F4A7C15)
    hashes = (hashes ^ (hashes >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    hashes = (hashes ^ (hashes >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    result: np.ndarray = hashes ^ (hashes >> np.uint64(31))
    return result


def _hash_strings(values: pa.Array) -> np.ndarray:
    from pandas.util import hash_array

    distinct = pc.unique(values).drop_null().to_numpy(zero_copy_only=False)
    return hash_array(distinct, categorize=False)
