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
from cerebros_spark.data.table.survey import TableSurvey

if TYPE_CHECKING:
    from cerebros_spark.data.table.spark_table import SparkTable

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
    counts = [
        _count_bins(table, trained, plan),
        *(
            _count_categories(table, trained, plan, storage, used, survey.rows)
            for storage in (INTEGER, STRING)
        ),
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


def _count_bins(table: SparkTable, frame: DataFrame, plan: CountPlan) -> pa.Table:
    """Count the bins of numbers; the strings are not passed to Python."""
    if not plan.binned:
        return SCHEMA.empty_table()
    numeric = table.without_strings()
    bins = replace(plan, integer_categories=(), string_categories=())

    def count(batches: Iterable[Any]) -> Iterator[Any]:
        yield from bins.count(numeric.batch_from_arrow(b) for b in batches).to_batches()

    grouped = (
        frame.select(*numeric.names)
        .mapInArrow(count, _COUNTS)
        .groupBy("place", "text", "bin")
        .agg(
            F.sum("rows").alias("rows"),
            F.min("least").alias("least"),
            F.max("greatest").alias("greatest"),
        )
    )
    collected = collect_tables(grouped.select(*SCHEMA.names)) or []
    return merge_counts([each.cast(SCHEMA) for each in collected])


def _count_categories(
    table: SparkTable,
    frame: DataFrame,
    plan: CountPlan,
    storage: str,
    used: Sequence[SurveyedColumn],
    rows: int,
) -> pa.Table:
    """Count the categories of a storage; of the rare ones of a column, only one is returned."""
    slots = plan.integer_categories if storage == INTEGER else plan.string_categories
    pack, missing = table.describe_pack(storage)
    counts = count_categories(
        frame,
        pack,
        slots,
        missing,
        fewest=min_category_rows(rows),
        # A category that the user asks for is known even if it is rare.
        kept=[
            each.slot
            for each in used
            if each.column.is_named and each.column.storage == storage and each.slot in slots
        ],
        limit=MAX_CATEGORIES + 1,
    )
    places = {slot: plan.find_place(storage, slot) for slot in slots}
    return pa.table(
        {
            "place": pa.array([places[slot] for slot in counts["slot"].to_pylist()], pa.int32()),
            "text": counts["text"],
            "bin": pa.nulls(counts.num_rows, pa.int64()),
            "rows": counts["rows"],
            "least": pa.nulls(counts.num_rows, pa.float64()),
            "greatest": pa.nulls(counts.num_rows, pa.float64()),
        },
        schema=SCHEMA,
    )
