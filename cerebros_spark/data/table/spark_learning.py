"""Learning of the schema of a raw table from a Spark DataFrame, by aggregates over its rows."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc
from pyspark.sql import DataFrame
from pyspark.sql import functions as F  # noqa: N812

from cerebros_spark.core.errors import DataError
from cerebros_spark.data.table.batch import select_storage
from cerebros_spark.data.table.collection import collect_rows, collect_table
from cerebros_spark.data.table.counts import SCHEMA, CountPlan
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
from cerebros_spark.data.table.source import STRING
from cerebros_spark.data.table.spark_strings import (
    NO_CATEGORIES,
    StringCounts,
    count_strings,
    survey_strings,
)
from cerebros_spark.data.table.survey import StringSurvey, TableSurvey

if TYPE_CHECKING:
    from cerebros_spark.data.table.spark_table import SparkTable

_COUNTS = "place int, text string, bin bigint, rows bigint, least double, greatest double"


def survey_frame(table: SparkTable, frame: DataFrame) -> tuple[TableSurvey, list[SurveyedColumn]]:
    """Survey all rows of a frame with the packs of a table; see :meth:`.SparkTable.survey`."""
    surveys = _survey_splits(table.without_strings(), frame.selectExpr("*", "false as validates"))
    if False not in surveys:
        raise DataError("the data has no rows")
    survey = surveys[False]
    columns = select_storage(table.columns, STRING)
    strings: list[StringSurvey] = []
    if columns:
        strings = survey_strings(frame, len(columns), survey.rows)
    return survey, describe_survey(survey, table.columns, strings)


def learn_from_frame(
    table: SparkTable, frame: DataFrame, labels: Sequence[LabelClasses]
) -> TableSchema:
    """Learn the schema of a table from a frame with its packs; see :meth:`.SparkTable.learn`."""
    numeric = table.without_strings()
    surveys = _survey_splits(numeric, frame)
    if False not in surveys:
        raise DataError("there are no training rows")
    check_infinities(*(describe_survey(each, numeric.columns) for each in surveys.values()))
    survey, trained = surveys[False], frame.where("not validates")
    strings = _count_strings(table, trained, survey.rows)
    surveyed = describe_survey(survey, table.columns, strings.surveys)
    used = [each for each in surveyed if find_reason(each) is None]
    plan = plan_counts(survey, used)
    counts = [
        _count_values(numeric, trained, replace(plan, string_categories=())),
        _place_strings(strings.categories, plan),
    ]
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


def _count_strings(table: SparkTable, frame: DataFrame, rows: int) -> StringCounts:
    columns = select_storage(table.columns, STRING)
    if not columns:
        return StringCounts([], NO_CATEGORIES)
    return count_strings(
        frame,
        len(columns),
        rows,
        fewest=min_category_rows(rows),
        # A category that the user asks for is known even if it is rare.
        kept=[slot for slot, column in enumerate(columns) if column.is_named],
        limit=MAX_CATEGORIES + 1,
    )


def _count_values(table: SparkTable, frame: DataFrame, plan: CountPlan) -> pa.Table:
    """Count bins, and categories that are integers or booleans."""
    if not plan.binned and not plan.integer_categories:
        return SCHEMA.empty_table()

    def count(batches: Iterable[Any]) -> Iterator[Any]:
        yield from plan.count(table.batch_from_arrow(b) for b in batches).to_batches()

    grouped = (
        frame.select(*table.names)
        .mapInArrow(count, _COUNTS)
        .groupBy("place", "text", "bin")
        .agg(
            F.sum("rows").alias("rows"),
            F.min("least").alias("least"),
            F.max("greatest").alias("greatest"),
        )
    )
    counts = collect_table(grouped.select(*SCHEMA.names))
    return SCHEMA.empty_table() if counts is None else counts.cast(SCHEMA)


def _place_strings(categories: pa.Table, plan: CountPlan) -> pa.Table:
    """Return the categories of the columns that are used, by place in the plan."""
    places = {slot: plan.find_place(STRING, slot) for slot in plan.string_categories}
    chosen = categories.filter(pc.is_in(categories["slot"], pa.array(places, pa.int64())))
    rows = chosen.num_rows
    return pa.table(
        {
            "place": pa.array([places[slot] for slot in chosen["slot"].to_pylist()], pa.int32()),
            "text": chosen["text"],
            "bin": pa.nulls(rows, pa.int64()),
            "rows": chosen["rows"],
            "least": pa.nulls(rows, pa.float64()),
            "greatest": pa.nulls(rows, pa.float64()),
        },
        schema=SCHEMA,
    )
