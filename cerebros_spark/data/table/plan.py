"""Text that describes the encoding plan of a raw table's columns to users."""

from __future__ import annotations

from collections.abc import Sequence

from cerebros_spark.data.table.schema import (
    EMBEDDED,
    SIGNED,
    CategoryColumn,
    ColumnSummary,
    DatetimeColumn,
    LabelClasses,
    TableColumn,
)

_WIDTH = 100
_MOST_LISTED = 200
_TITLES = ("column", "type", "kind", "missing", "distinct", "use")


def describe_use(column: TableColumn) -> str:
    """Return a short description of a column's encoding."""
    if isinstance(column, CategoryColumn):
        rare = ", rare ones together" if column.other else ""
        if column.encoding == SIGNED:
            return "-1 or 1"
        if column.encoding == EMBEDDED:
            if column.buckets:
                rare = f", the others in {column.buckets:,} hash buckets"
            return f"embedding of {len(column.values):,} categories{rare}"
        return f"one-hot, {len(column.values)} categories{rare}"
    if isinstance(column, DatetimeColumn):
        return ", ".join(column.parts)
    if column.width is not None:
        return f"{column.width:,} scaled numbers"
    return "scaled number"


def format_plan(summary: Sequence[ColumnSummary], labels: Sequence[LabelClasses] = ()) -> str:
    """Format the encoding plan of all columns as a plain-text table.

    Args:
        summary: Summaries of the columns.
        labels: Classes of the labels.
    """
    rows = [_TITLES, *map(_format_row, summary[:_MOST_LISTED])]
    widths = [max(len(row[place]) for row in rows) for place in range(len(_TITLES) - 1)]
    lines = []
    for row in rows:
        cells = [text.ljust(width) for text, width in zip(row, widths, strict=False)]
        lines.append("  ".join([*cells, row[-1]]).rstrip())
    if len(summary) > _MOST_LISTED:
        lines.append(f"… and {len(summary) - _MOST_LISTED:,} more columns")
    for each in labels:
        names = ", ".join(map(str, each.values[:8]))
        more = ", …" if len(each.values) > 8 else ""
        lines.append(f"label {each.name}: {len(each.values):,} classes: {names}{more}")
    return "\n".join(lines)


def _format_row(column: ColumnSummary) -> tuple[str, ...]:
    distinct = "" if column.distinct is None else f"{column.distinct:,}"
    use = column.use if column.is_used else f"left out: {column.use}"
    shown = (column.name, column.type, column.kind, f"{column.missing:.1%}", distinct, use)
    return tuple(_shorten(text, 40 if place < 2 else _WIDTH) for place, text in enumerate(shown))


def _shorten(text: str, width: int) -> str:
    text = " ".join(text.split())
    return text if len(text) <= width else text[: width - 1] + "…"
