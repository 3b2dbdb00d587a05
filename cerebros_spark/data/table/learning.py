"""Choice of what to count in a raw table's columns, and of how to encode them.

The first pass over the rows (the survey) determines what the second pass counts. Both passes
determine the encodings. This module reads no rows.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from cerebros_spark.core.errors import DataError
from cerebros_spark.data.table import calendar
from cerebros_spark.data.table.column_use import SurveyedColumn, find_reason, is_category, summarize
from cerebros_spark.data.table.counts import CountPlan, find_quantiles
from cerebros_spark.data.table.hashing import choose_buckets
from cerebros_spark.data.table.plan import describe_use
from cerebros_spark.data.table.schema import (
    EMBEDDED,
    ONE_HOT,
    SIGNED,
    CategoryColumn,
    DatetimeColumn,
    LabelClasses,
    NumberColumn,
    TableColumn,
    TableSchema,
)
from cerebros_spark.data.table.source import INTEGER, NUMBER, STRING, VECTOR, is_integer_type
from cerebros_spark.data.table.survey import NumberSurvey, TableSurvey

logger = logging.getLogger(__name__)

MAX_ONE_HOT = 32
"""Maximum number of kept categories of a column that is one-hot encoded."""

MAX_ONE_HOT_ALONE = 100
"""Maximum number of kept categories of a column if networks do not embed categories."""

MAX_CATEGORIES = 10_000
"""Maximum number of kept categories of a column; these are the most frequent ones.

If the user set the kind of the column, the other categories share hash buckets."""

MAX_ALL_CATEGORIES = 1_000_000
"""Maximum number of kept categories of all columns together."""

_QUARTILES = (0.25, 0.5, 0.75)

_EXACT = 2**53


def plan_counts(survey: TableSurvey, used: Sequence[SurveyedColumn]) -> CountPlan:
    """Plan the second pass, which counts the used columns' categories, and numbers in bins."""
    numbers = [
        slot
        for each in used
        if each.column.storage in (NUMBER, VECTOR)
        for slot in range(each.slot, each.slot + each.column.width)
    ]
    integers = [each for each in used if _is_binned_integer(each)]
    origins = [_choose_origin(each) for each in integers]
    slots = [each.slot for each in integers]
    centers = [
        *survey.numbers.mean[numbers].tolist(),
        *(_center(each, origin, survey) for each, origin in zip(integers, origins, strict=True)),
    ]
    spreads = [
        *_choose_spreads(survey.numbers, numbers),
        *_choose_spreads(survey.integers, slots),
    ]
    return CountPlan(
        numbers=tuple(numbers),
        integers=tuple(slots),
        origins=tuple(origins),
        centers=tuple(centers),
        spreads=tuple(spreads),
        integer_categories=tuple(
            each.slot for each in used if each.column.storage == INTEGER and is_category(each)
        ),
        string_categories=tuple(each.slot for each in used if each.column.storage == STRING),
    )


def _is_binned_integer(surveyed: SurveyedColumn) -> bool:
    return surveyed.column.storage == INTEGER and not is_category(surveyed)


def _choose_origin(surveyed: SurveyedColumn) -> int:
    """Return the value to subtract from integers so that float64 represents them exactly."""
    least, greatest = int(surveyed.least or 0), int(surveyed.greatest or 0)
    return least if max(abs(least), abs(greatest)) > _EXACT else 0


def _center(surveyed: SurveyedColumn, origin: int, survey: TableSurvey) -> float:
    if origin:
        return (int(surveyed.greatest or 0) - origin) / 2
    return float(survey.integers.mean[surveyed.slot])


def _choose_spreads(survey: NumberSurvey, slots: Sequence[int]) -> list[float]:
    spreads = survey.deviation[list(slots)]
    extent = survey.greatest[list(slots)] - survey.least[list(slots)]
    usable = np.isfinite(spreads) & (spreads > 0)
    result: list[float] = np.where(
        usable, spreads, np.where(np.isfinite(extent) & (extent > 0), extent, 1.0)
    ).tolist()
    return result


def learn_schema(
    surveyed: Sequence[SurveyedColumn],
    plan: CountPlan,
    counts: pa.Table,
    labels: Sequence[LabelClasses],
    *,
    embeds: bool = True,
) -> TableSchema:
    """Return the schema with the encoding of each column.

    Args:
        surveyed: All columns with their counts and ranges in the training rows (first pass).
        plan: Plan of the second pass, from :func:`plan_counts`.
        counts: Counts of the second pass over the training rows, with the schema
            :data:`.counts.SCHEMA`.
        labels: Classes of the labels, which are part of the schema.
        embeds: Whether networks embed category codes. If False, categories are one-hot encoded, and
            at most 100 per column are kept.

    Raises:
        DataError: If no column can be used, or categories contain the character NUL; the message
            names all such columns.
    """
    learner = _Learner(plan, counts, embeds)
    columns: list[TableColumn] = []
    summary, problems = [], []
    for each in surveyed:
        reason = find_reason(each)
        try:
            column = None if reason else learner.learn(each)
        except DataError as error:
            problems.append(str(error))
            continue
        if column is None:
            reason = reason or "all of its categories are rare"
            summary.append(summarize(each, False, reason))
        else:
            columns.append(column)
            summary.append(summarize(each, True, describe_use(column)))
    if problems:
        raise DataError("; ".join(problems))
    if not columns:
        reasons = "; ".join(f"{each.name!r}: {each.use}" for each in summary[:8])
        raise DataError(f"no feature can be used: {reasons}")
    return TableSchema(tuple(columns), tuple(labels), tuple(summary))


class _Learner:
    """Learner of the encoding of each column from its counts."""

    def __init__(
        self,
        plan: CountPlan,
        counts: pa.Table,
        embeds: bool,
    ) -> None:
        self._plan = plan
        self._embeds = embeds
        self._numbers = {slot: place for place, slot in enumerate(plan.numbers)}
        start = len(plan.numbers)
        self._integers = {slot: start + at for at, slot in enumerate(plan.integers)}
        places = [
            *((INTEGER, slot) for slot in plan.integer_categories),
            *((STRING, slot) for slot in plan.string_categories),
        ]
        self._categories = {key: plan.binned + at for at, key in enumerate(places)}
        most = MAX_CATEGORIES if embeds else MAX_ONE_HOT_ALONE
        self._limit = min(most, MAX_ALL_CATEGORIES // max(len(places), 1))
        ordered = counts.sort_by("place")
        ends = np.searchsorted(
            ordered.column("place").to_numpy(), np.arange(plan.binned + len(places) + 1)
        )
        self._counts = ordered
        self._ends = ends

    def learn(self, surveyed: SurveyedColumn) -> TableColumn | None:
        """Return the encoding of a column; None if all of its categories are rare."""
        column = surveyed.column
        if is_category(surveyed):
            return self._learn_categories(surveyed)
        if column.kind == "datetime":
            return self._learn_times(surveyed)
        if column.storage == INTEGER:
            origin = self._plan.origins[self._plan.integers.index(surveyed.slot)]
            center, scale = self._scale(self._integers[surveyed.slot])
            return NumberColumn(
                column.name,
                column.type,
                INTEGER,
                (origin + round(center),),
                (scale,),
                (surveyed.missing > 0,),
            )
        slots = range(surveyed.slot, surveyed.slot + column.width)
        scales = [self._scale(self._numbers[slot]) for slot in slots]
        is_missing = surveyed.missing > 0
        return NumberColumn(
            column.name,
            column.type,
            column.storage,
            tuple(center for center, _ in scales),
            tuple(scale for _, scale in scales),
            (is_missing,) * column.width,
            column.width if column.storage == VECTOR else None,
        )

    def _find(self, place: int) -> pa.Table:
        start, end = self._ends[place], self._ends[place + 1]
        return self._counts.slice(start, end - start)

    def _scale(self, place: int) -> tuple[float, float]:
        """Return the center and the scale of the number with the index ``place`` in the counts."""
        counts = self._find(place)
        if counts.num_rows == 0:  # no training row has a value
            return 0.0, 0.0
        low, middle, high = find_quantiles(counts, _QUARTILES)
        least, greatest = pc.min(counts["least"]).as_py(), pc.max(counts["greatest"]).as_py()
        return float(middle), choose_scale(low, high, least, greatest)

    def _learn_times(self, surveyed: SurveyedColumn) -> DatetimeColumn:
        center, scale = self._scale(self._integers[surveyed.slot])
        origin = self._plan.origins[self._plan.integers.index(surveyed.slot)]
        middle = origin + round(center)
        year = int(calendar.compute_part(calendar.YEAR, np.array([middle]))[0])
        years = 365.2425 * calendar.DAY
        column = surveyed.column
        if is_integer_type(column.type) and not 1 < abs(middle) / years < 1000:
            logger.warning(
                "the column %r holds integers, which count as microseconds since 1970, so that it "
                "is about the year %d: if they are seconds, multiply them by 1,000,000; "
                "milliseconds by 1,000; divide nanoseconds by 1,000",
                column.name,
                year,
            )
        return DatetimeColumn(
            column.name,
            column.type,
            tuple(_choose_parts(surveyed)),
            (middle, year),
            (scale, min(scale * years, 1.0)),
            surveyed.missing > 0,
            column.zone,
        )

    def _learn_categories(self, surveyed: SurveyedColumn) -> CategoryColumn | None:
        column = surveyed.column
        counts = self._find(self._categories[column.storage, surveyed.slot])
        names, rows = counts["text"].to_pylist(), counts["rows"].to_pylist()
        # Categories that the user asks for are known even if they are rare.
        fewest = 1 if column.is_named else min_category_rows(surveyed.rows)
        ranked = sorted(zip(names, rows, strict=True), key=lambda pair: (-pair[1], pair[0]))
        known = [text for text, count in ranked if count >= fewest][: self._limit]
        if not known:
            return None
        if any("\0" in text for text in known):
            raise DataError(
                f"the column {column.name!r} holds strings with the character NUL, which "
                "TensorFlow cannot tell from their end: remove it first"
            )
        other = len(known) < len(ranked)
        values: list[str | int] = sorted(known)
        if column.storage == INTEGER:
            values = sorted(int(text) for text in known)
        one_hot = not self._embeds or len(values) <= MAX_ONE_HOT
        encoding = ONE_HOT if one_hot else EMBEDDED
        if len(values) == 2 and not other:
            encoding = SIGNED
        buckets = 0
        if other and column.is_named and encoding == EMBEDDED and _can_hash(surveyed, values):
            buckets, other = choose_buckets(surveyed.distinct or 0, len(values)), False
        return CategoryColumn(
            column.name,
            column.type,
            column.storage,
            tuple(values),
            surveyed.missing > 0,
            other,
            encoding,
            buckets,
        )


def _can_hash(surveyed: SurveyedColumn, known: Sequence[str | int]) -> bool:
    """Return whether exported models can hash a column's categories exactly.

    Exported models take integers as float64, unless kept categories need more digits.
    """
    if surveyed.column.storage != INTEGER:
        return True
    largest = max(abs(int(surveyed.least or 0)), abs(int(surveyed.greatest or 0)))
    return largest <= _EXACT or any(abs(int(value)) > _EXACT for value in known)


def min_category_rows(rows: int) -> int:
    """Return the minimum number of rows of a kept category: 2 to 10, growing with ``rows``."""
    return max(2, min(10, rows // 10_000))


def choose_scale(low: float, high: float, least: float, greatest: float) -> float:
    """Return the factor by which a column of numbers is scaled; 0 if the column is constant.

    This is the "robust scale" of arXiv 2407.04491, section 3.

    Args:
        low: Lower quartile.
        high: Upper quartile.
        least: Minimum.
        greatest: Maximum.
    """
    # Halves, because a difference may be infinite.
    for half, numerator in ((high / 2 - low / 2, 0.5), (greatest / 2 - least / 2, 1.0)):
        if half > 0 and np.isfinite(numerator / half):
            return float(numerator / half)
    return 0.0


def _choose_parts(surveyed: SurveyedColumn) -> Iterator[str]:
    """Yield the elapsed time, and the calendar parts that vary in a column of times."""
    times = np.array([surveyed.least, surveyed.greatest], np.int64)
    yield calendar.ELAPSED
    years, months, days = calendar.split_days(times // calendar.DAY)
    extent = (int(times[1]) - int(times[0])) / calendar.DAY
    if years[0] != years[1]:
        yield calendar.YEAR
    if extent >= 366 or months[0] != months[1]:
        yield calendar.MONTH
    if extent >= 1 and (extent >= 31 or days[0] != days[1]):
        yield calendar.DAY_OF_MONTH
    if extent >= 1:
        yield calendar.WEEKDAY
    if surveyed.has_times:
        yield calendar.HOUR
