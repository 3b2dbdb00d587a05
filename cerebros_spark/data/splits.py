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
    """Whether rows are stratified by a label.

    Args:
        rows: Number of rows.
        values: Number of different values of the label.
    """
    return rows >= ROWS_PER_CLASS * values


@dataclass(frozen=True)
class Stratum:
    """Rows of one class, which follow one another in the sorted order.

    Attributes:
        start: Number of its first row in the order.
        rows: How many rows it has.
        validation: How many of them validate.
        validation_before: How many rows of the strata before it validate.
    """

    start: int
    rows: int
    validation: int
    validation_before: int


def allocate(counts: Sequence[int], validation: int) -> tuple[Stratum, ...]:
    """Divide the validation rows among classes in proportion to their rows.

    Each class gets its share rounded down or up (largest remainders first), and keeps at least one
    training row where the other classes have enough rows.

    Args:
        counts: Number of rows of each class, in the order in which the rows are sorted.
        validation: Number of validation rows, at most the sum of ``counts``.

    Returns:
        The strata, in the order of ``counts``.
    """
    rows = sum(counts)
    shares = [count * validation // rows for count in counts]
    by_remainder = sorted(
        range(len(counts)), key=lambda i: (-(counts[i] * validation % rows), -counts[i], i)
    )
    missing = validation - sum(shares)
    for spare in (1, 0):  # training rows that a class keeps
        for i in by_remainder:
            if missing and shares[i] + spare < counts[i]:
                shares[i] += 1
                missing -= 1
    while missing:  # only where nearly all rows validate
        for i in by_remainder:
            if missing and shares[i] < counts[i]:
                shares[i] += 1
                missing -= 1
    strata, start, before = [], 0, 0
    for count, share in zip(counts, shares, strict=True):
        strata.append(Stratum(start, count, share, before))
        start, before = start + count, before + share
    return tuple(strata)
