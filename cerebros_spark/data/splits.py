"""Arithmetic of the split: which rows are for validation, and the partition of each row.

Rows are numbered in an order that is sorted by class and random within a class, except that equal
rows may be adjacent. Validation rows are taken at equal distances in that order; the rows of each
split are then assigned to the partitions in turn. So every split and every partition has its share
of each class and of each repeated row, to within one row.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

ROWS_PER_CLASS = 5
"""Minimum average number of rows per distinct value for a label to be stratified."""


def are_classes(rows: int, values: int) -> bool:
    """Return whether a label with ``values`` distinct values in ``rows`` rows is categorical.

    Splits are stratified by categorical labels.
    """
    return rows >= ROWS_PER_CLASS * values


def validation_size(rows: int, validation: float) -> int:
    """Return the number of validation rows: the fraction ``validation`` of ``rows``, rounded."""
    return int(rows * validation + 0.5)


def split_sizes(rows: int, parts: int) -> tuple[int, ...]:
    """Return the sizes of ``parts`` parts if each row ``i`` belongs to part ``i % parts``."""
    return tuple(rows // parts + (part < rows % parts) for part in range(parts))


@dataclass(frozen=True)
class Stratum:
    """Rows of one class, which are contiguous in the sorted order.

    Attributes:
        start: Index of the first row in the order.
        rows: Number of rows.
        validation: Number of validation rows.
        validation_before: Number of validation rows in all preceding strata.
    """

    start: int
    rows: int
    validation: int
    validation_before: int


def allocate(counts: Sequence[int], validation: int) -> tuple[Stratum, ...]:
    """Allocate the validation rows to classes in proportion to their numbers of rows.

    Each class gets its share, rounded down or up by the largest-remainder method. A class keeps at
    least one training row if the other classes have enough rows.

    Args:
        counts: Number of rows of each class, in sorted order.
        validation: Number of validation rows, at most the sum of ``counts``.

    Returns:
        One stratum for each class.
    """
    rows = sum(counts)
    shares = [count * validation // rows for count in counts]
    by_remainder = sorted(
        range(len(counts)), key=lambda i: (-(counts[i] * validation % rows), -counts[i], i)
    )
    missing = validation - sum(shares)
    for spare in (1, 0):  # minimum number of training rows that a class keeps
        while missing and (ready := [i for i in by_remainder if shares[i] + spare < counts[i]]):
            for i in ready[:missing]:
                shares[i] += 1
            missing -= len(ready[:missing])
    strata, start, before = [], 0, 0
    for count, share in zip(counts, shares, strict=True):
        strata.append(Stratum(start, count, share, before))
        start, before = start + count, before + share
    return tuple(strata)
