"""Learning of the schema of a raw table from a Spark DataFrame, by aggregates over its rows."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pyspark.sql import DataFrame
from pyspark.sql import functions as F  # noqa: N812

from cerebros_spark.core.errors import DataError
from cerebros_spark.data.table.collection import collect_rows, collect_tables
from cerebros_spark.data.table.counts import SCHEMA, CountPlan, merge_counts
from cerebros_spark.data.table.learning import (
    MAX_CATEGORIES,
    SurveyedColumn,
    check_infinities,
    describe_survey,
    find_reason,
    learn_schema,
    min_category_rows,
    plan_counts,
)
from cerebros_spark.data.table.schema import LabelClasses, TableSchema
from cerebros_spark.data.table.source import INTEGER, STRING
from cerebros_spark.data.table.spark_categories import count_categories
from cerebros_spark.data.table.string_pack import unescape
from cerebros_spark.data.table.survey import TableSurvey

if TYPE_CHECKING:
    from cerebros_spark.data.table.spark_table import SparkTable

_FEW_CATEGORIES = 4096  # of a column, whose counts of each task go to Spark
_COUNTS = "place int, text string, bin bigint, rows bigint, least double, greatest double"


def survey_frame(table: SparkTable, frame: DataFrame) -> tuple[TableSurvey, list[SurveyedColumn]]:
    """Survey all rows of a frame with the packs of a table; see :meth:`.SparkTable.survey`."""
    surveys = _survey_splits(table, frame.selectExpr(*table.names, "false as validates"))
    if False not in surveys:
        raise DataError("the data has no rows")
    return surveys[False], describe_survey(surveys[False], table.columns)


def learn_from_frame(
    table: SparkTable, frame: DataFrame, labels: Sequence[LabelClasses]
) -> TableSchema:
    """Learn the schema of a table from a frame with its packs; see :meth:`.SparkTable.learn`."""
    surveys = _survey_splits(table, frame)
    if False not in surveys:
        raise DataError("there are no training rows")
    survey, trained = surveys[False], frame.where("not validates")
    surveyed = describe_survey(survey, table.columns)
    others = [describe_survey(surveys[True], table.columns)] if True in surveys else []
    check_infinities(surveyed, *others)
    used = [each for each in surveyed if find_reason(each) is None]
    plan = plan_counts(survey, used)
    # Spark groups many distinct values faster than Python, and Python few.
    few = tuple(
        each.slot
        for each in used
        if each.column.storage == STRING and (each.distinct or 0) <= _FEW_CATEGORIES
    )
    counts = [_count_in_python(table, trained, plan, few)]
    for storage, slots in (
        (INTEGER, plan.integer_categories),
        (STRING, tuple(slot for slot in plan.string_categories if slot not in few)),
    ):
        named = [
            each.slot for each in used if each.column.is_named and each.column.storage == storage
        ]
        counts.append(_count_in_spark(table, trained, plan, storage, slots, named, survey.rows))
    return learn_schema(surveyed, plan, pa.concat_tables(counts), labels, embeds=table.embeds)


def _survey_splits(table: SparkTable, frame: DataFrame) -> dict[bool, TableSurvey]:
    """Survey the rows by the column ``validates``, in one pass."""

    def count(batches: Iterable[Any]) -> Iterator[Any]:
        surveys: dict[bool, TableSurvey] = {}
        for batch in batches:
            marks = batch.column("validates")
            for validates in (False, True):
                part = batch.filter(pc.equal(marks, validates))
                if part.num_rows:
                    counted = TableSurvey.count(table.batch_from_arrow(part))
                    before = surveys.get(validates)
                    surveys[validates] = counted if before is None else before.merge(counted)
        for validates, survey in surveys.items():
            row = {"validates": [validates], "survey": [survey.to_bytes()]}
            yield pa.RecordBatch.from_pydict(row)

    total: dict[bool, TableSurvey] = {}
    selected = frame.select(*table.names, "validates")
    for row in collect_rows(selected, count, "validates boolean, survey binary"):
        part = TableSurvey.from_bytes(row["survey"])
        before = total.get(row["validates"])
        total[row["validates"]] = part if before is None else before.merge(part)
    return total


def _count_in_python(
    table: SparkTable, frame: DataFrame, plan: CountPlan, slots: tuple[int, ...]
) -> pa.Table:
    """Count the bins of numbers, and the categories of strings in some slots."""
    part = replace(plan, integer_categories=(), string_categories=slots)
    if not part.binned and not slots:
        return SCHEMA.empty_table()
    counted = table if slots else table.without_strings()

    def count(batches: Iterable[Any]) -> Iterator[Any]:
        yield from part.count(counted.batch_from_arrow(b) for b in batches).to_batches()

    grouped = (
        frame.select(*counted.names)
        .mapInArrow(count, _COUNTS)
        .groupBy("place", "text", "bin")
        .agg(
            F.sum("rows").alias("rows"),
            F.min("least").alias("least"),
            F.max("greatest").alias("greatest"),
        )
    )
    collected = collect_tables(grouped.select(*SCHEMA.names)) or []
    counts = merge_counts([each.cast(SCHEMA) for each in collected])
    places = [*range(part.binned), *(plan.find_place(STRING, slot) for slot in slots)]
    moved = np.asarray(places, np.int32)[counts["place"].to_numpy()]
    return counts.set_column(0, SCHEMA.field("place"), pa.array(moved))


def _count_in_spark(
    table: SparkTable,
    frame: DataFrame,
    plan: CountPlan,
    storage: str,
    slots: Sequence[int],
    named: Sequence[int],
    rows: int,
) -> pa.Table:
    """Count categories; of the rare ones of a column, only one is returned."""
    pack, missing = table.describe_pack(storage)
    counts = count_categories(
        frame,
        pack,
        slots,
        missing,
        fewest=min_category_rows(rows),
        # A category that the user asks for is known even if it is rare.
        kept=[slot for slot in slots if slot in named],
        limit=MAX_CATEGORIES + 1,
    )
    places = {slot: plan.find_place(storage, slot) for slot in slots}
    return pa.table(
        {
            "place": pa.array([places[slot] for slot in counts["slot"].to_pylist()], pa.int32()),
            "text": unescape(counts["text"]) if storage == STRING else counts["text"],
            "bin": pa.nulls(counts.num_rows, pa.int64()),
            "rows": counts["rows"],
            "least": pa.nulls(counts.num_rows, pa.float64()),
            "greatest": pa.nulls(counts.num_rows, pa.float64()),
        },
        schema=SCHEMA,
    )
