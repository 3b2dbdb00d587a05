"""Which rows validate, and which partition each row goes to: the arithmetic, without rows.

Rows are numbered in an order that is sorted by class and random within a class, except that equal
rows may be neighbors. Validation rows are taken at equal distances in that order, and the training
rows in between are dealt to the partitions in turn. So every split and every partition has its
share of each class and of each repeated row, within one row.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

ROWS_PER_CLASS = 5
"""With fewer rows for each value of a label, on average, its values are not treated as classes."""


def are_classes(rows: int, values: int) -> bool:
    """Return whether rows are stratified by a label that has a number of distinct values."""
    return rows >= ROWS_PER_CLASS * values


def validation_size(rows: int, validation: float) -> int:
    """Return the number of validation rows for a fraction of all rows, to the nearest row."""
    return int(rows * validation + 0.5)


def split_sizes(rows: int, parts: int) -> tuple[int, ...]:
    """Return the sizes of parts, when row ``i`` goes to part ``i % parts``."""
    return tuple(rows // parts + (part < rows % parts) for part in range(parts))


@dataclass(frozen=True)
class Stratum:
    """Rows of one class, which are contiguous in the sorted order.

    Attributes:
        start: Number of its first row in the order.
        rows: Number of its rows.
        validation: Number of its validation rows.
        validation_before: Number of validation rows in the strata before it.
    """

    start: int
    rows: int
    validation: int
    validation_before: int


def allocate(counts: Sequence[int], validation: int) -> tuple[Stratum, ...]:
    """Divide the validation rows among classes in proportion to their rows.

    Each class gets its share rounded down or up (largest remainders first), and keeps at least one
    training row if the other classes have enough rows.

    Args:
        counts: Number of rows of each class, in sorted order.
        validation: Number of validation rows, at most the sum of ``counts``.
    """
    rows = sum(counts)
    shares = [count * validation // rows for count in counts]
    by_remainder = sorted(
        range(len(counts)), key=lambda i: (-(counts[i] * validation % rows), -counts[i], i)
    )
    missing = validation - sum(shares)
    for spare in (1, 0):  # training rows that a class keeps
        while missing and (ready := [i for i in by_remainder if shares[i] + spare < counts[i]]):
            for i in ready[:missing]:
                shares[i] += 1
            missing -= len(ready[:missing])
    strata, start, before = [], 0, 0
    for count, share in zip(counts, shares, strict=True):
        strata.append(Stratum(start, count, share, before))
        start, before = start + count, before + share
    return tuple(strata)
