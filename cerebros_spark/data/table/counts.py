"""Second pass over a raw table: counts of categories, and of numbers in narrow bins.

Quantiles of the numbers are computed from the bins. All counts are sums, so they do not depend on
how rows are distributed over tasks.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from cerebros_spark.data.table.batch import RawBatch, subtract_exactly
from cerebros_spark.data.table.source import INTEGER

_DROPPED_BITS = 17
"""Bits of a float32 that a bin ignores; 6 bits of the mantissa remain."""

SCHEMA = pa.schema(
    [
        ("place", pa.int32()),
        ("text", pa.string()),
        ("bin", pa.int64()),
        ("rows", pa.int64()),
        ("least", pa.float64()),
        ("greatest", pa.float64()),
    ]
)
"""Columns of a table of counts, which has one row for each bin of a number and each category.

``place`` is the index of the counted value: 0 and up for the binned numbers, then for the binned
integers, the integer categories and the string categories of a :class:`CountPlan`. ``text`` is the
category, or ``bin`` the bin; ``rows`` is the number of rows with it; ``least`` and ``greatest`` are
the minimum and maximum of the numbers in the bin."""

BINS = -1
"""Value instead of a column's ``place`` (see :data:`SCHEMA`) for the bins of all numbers."""

# pyarrow 14 does not find equal keys if one of them is a null string.
_KEYS = ["place", "bin"]
_SUMS = [("rows", "sum"), ("least", "min"), ("greatest", "max")]


@dataclass(frozen=True)
class CountPlan:
    """Plan of the values to count. A slot is a column index in an array of a :class:`.RawBatch`.

    Attributes:
        numbers: Slots of the numbers that are binned.
        integers: Slots of the integers that are binned.
        origins: For each binned integer, the value to subtract before binning.
        centers: For each binned number, then for each binned integer, the center of the bins.
        spreads: Values by which distances from ``centers`` are divided before binning.
        integer_categories: Slots of the integers that are categories.
        string_categories: Slots of the strings that are categories.
    """

    numbers: tuple[int, ...]
    integers: tuple[int, ...]
    origins: tuple[int, ...]
    centers: tuple[float, ...]
    spreads: tuple[float, ...]
    integer_categories: tuple[int, ...]
    string_categories: tuple[int, ...]

    @property
    def binned(self) -> int:
        """Number of binned values in a row; categorical columns follow them in ``place``."""
        return len(self.numbers) + len(self.integers)

    def find_place(self, storage: str, slot: int) -> int:
        """Return the ``place`` of a categorical column; see :data:`SCHEMA`."""
        if storage == INTEGER:
            return self.binned + self.integer_categories.index(slot)
        start = self.binned + len(self.integer_categories)
        return start + self.string_categories.index(slot)

    def count(self, batches: Iterable[RawBatch]) -> pa.Table:
        """Count the values in all batches; return a table with the schema :data:`SCHEMA`."""
        parts = self.count_parts(batches)
        return pa.concat_tables(complete_counts(place, counts) for place, counts in parts)

    def count_parts(self, batches: Iterable[RawBatch]) -> Iterator[tuple[int, pa.Table]]:
        """Yield ``(BINS, counts)`` for the bins, then ``(place, counts)`` per categorical column.

        Category counts have the columns ``text`` and ``rows``.
        """
        bins: list[pa.Table] = []
        categories: dict[int, list[pa.Array]] = {}
        for batch in batches:
            bins.append(self._count_bins(batch))
            for place, values in self._find_categories(batch):
                categories.setdefault(place, []).append(values)
        yield BINS, merge_counts(bins)
        for place, arrays in categories.items():
            counted = pc.value_counts(pa.chunked_array(arrays))
            values, rows = counted.field("values"), counted.field("counts")
            yield place, pa.table({"text": values, "rows": rows})

    def _count_bins(self, batch: RawBatch) -> pa.Table:
        values = np.concatenate(
            [batch.numbers[:, list(self.numbers)], self._shift_integers(batch)], axis=1
        )
        with np.errstate(over="ignore", invalid="ignore"):
            scaled = (values - np.asarray(self.centers)) / np.asarray(self.spreads)
            bins = _to_bins(scaled.astype(np.float32))
        present = np.isfinite(values)
        places = np.broadcast_to(np.arange(self.binned, dtype=np.int64), values.shape)[present]
        keys, kept = (places << 32) | bins[present], values[present]
        order = np.argsort(keys, kind="stable")
        keys, kept = keys[order], kept[order]
        starts = np.flatnonzero(np.diff(keys, prepend=-1))
        count = len(starts)
        return pa.table(
            {
                "place": pa.array((keys[starts] >> 32).astype(np.int32)),
                "text": pa.nulls(count, pa.string()),
                "bin": pa.array(keys[starts] & 0xFFFFFFFF),
                "rows": pa.array(np.diff(starts, append=len(keys)).astype(np.int64)),
                "least": pa.array(np.minimum.reduceat(kept, starts) if count else kept),
                "greatest": pa.array(np.maximum.reduceat(kept, starts) if count else kept),
            }
        )

    def _shift_integers(self, batch: RawBatch) -> np.ndarray:
        slots = list(self.integers)
        shifted = subtract_exactly(batch.integers[:, slots], np.asarray(self.origins, np.int64))
        shifted[batch.missing[:, slots]] = np.nan
        return shifted

    def _find_categories(self, batch: RawBatch) -> Iterable[tuple[int, pa.Array]]:
        place = self.binned
        for slot in self.integer_categories:
            values = batch.integers[:, slot][~batch.missing[:, slot]]
            yield place, pa.array(values).cast(pa.large_string())
            place += 1
        for slot in self.string_categories:
            yield place, batch.strings[slot].drop_null()
            place += 1


def complete_counts(place: int, counts: pa.Table) -> pa.Table:
    """Convert counts from :meth:`CountPlan.count_parts` to the schema :data:`SCHEMA`.

    The counts of bins already have this schema.
    """
    if place == BINS:
        return counts
    rows = counts.num_rows
    return pa.table(
        {
            "place": pa.array(np.full(rows, place, np.int32)),
            "text": counts["text"].cast(pa.string()),
            "bin": pa.nulls(rows, pa.int64()),
            "rows": counts["rows"].cast(pa.int64()),
            "least": pa.nulls(rows, pa.float64()),
            "greatest": pa.nulls(rows, pa.float64()),
        },
        schema=SCHEMA,
    )


def add_categories(tables: Sequence[pa.Table]) -> pa.Table:
    """Add up several tables of counts of the same column's categories."""
    added = pa.concat_tables(tables).group_by("text").aggregate([("rows", "sum")])
    return pa.table({"text": added["text"], "rows": added["rows_sum"]})


def merge_counts(tables: Sequence[pa.Table]) -> pa.Table:
    """Add up the bin counts of several tables."""
    if not tables:
        return SCHEMA.empty_table()
    added = pa.concat_tables(tables).group_by(_KEYS).aggregate(_SUMS)
    columns = {name: added[f"{name}_{function}"] for name, function in _SUMS}
    text = pa.nulls(added.num_rows, pa.string())
    return pa.table(
        {"place": added["place"], "text": text, "bin": added["bin"], **columns}, schema=SCHEMA
    )


def _to_bins(scaled: np.ndarray) -> np.ndarray:
    """Return the bin of each float32 number; bins are integers in the order of the numbers."""
    bits = scaled.view(np.int32).astype(np.int64)
    ordered = np.where(bits < 0, -(bits & 0x7FFFFFFF), bits) + 2**31
    return ordered >> _DROPPED_BITS


def find_quantiles(counts: pa.Table, shares: Sequence[float]) -> np.ndarray:
    """Return float64 quantiles of one number, interpolated between a bin's minimum and maximum.

    A quantile is exact if its bin has one distinct value. Otherwise it is accurate to 1.6 % of its
    distance from the center of the bins.

    Args:
        counts: Counts of the number's bins, at least one, with the schema :data:`SCHEMA`.
        shares: Fraction of the rows below each quantile, in (0, 1).
    """
    ordered = counts.sort_by("bin")
    rows, low, high = (
        ordered.column(name).to_numpy().astype(np.float64) for name in ("rows", "least", "greatest")
    )
    ends = np.cumsum(rows)
    wanted = np.asarray(shares) * ends[-1]
    at = np.searchsorted(ends, wanted)
    inside = (wanted - (ends[at] - rows[at])) / rows[at]
    # Not the difference, which may be infinite.
    quantiles: np.ndarray = low[at] * (1 - inside) + high[at] * inside
    return quantiles
