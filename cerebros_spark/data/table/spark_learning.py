"""Learning of a raw table's schema from a Spark DataFrame, by aggregates over its rows."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc
from pyspark.sql import DataFrame

from cerebros_spark.core.errors import DataError
from cerebros_spark.data.table.collection import collect_rows
from cerebros_spark.data.table.column_use import (
    SurveyedColumn,
    check_values,
    describe_survey,
    find_reason,
    is_category,
)
from cerebros_spark.data.table.learning import (
    MAX_CATEGORIES,
    learn_schema,
    min_category_rows,
    plan_counts,
)
from cerebros_spark.data.table.schema import LabelClasses, TableSchema
from cerebros_spark.data.table.spark_counts import CategoryLimits, count_frame
from cerebros_spark.data.table.survey import TableSurvey

if TYPE_CHECKING:
    from cerebros_spark.data.table.spark_table import SparkTable


def survey_frame(table: SparkTable, frame: DataFrame) -> tuple[TableSurvey, list[SurveyedColumn]]:
    """Compute counts and ranges of a table's columns; see :meth:`.SparkTable.survey`."""
    surveys = _survey_splits(table, frame.selectExpr(*table.names, "false as validates"))
    if False not in surveys:
        raise DataError("the data has no rows")
    return surveys[False], describe_survey(surveys[False], table.columns)


def learn_from_frame(
    table: SparkTable, frame: DataFrame, labels: Sequence[LabelClasses]
) -> TableSchema:
    """Learn a table's schema from the training rows of a frame; see :meth:`.SparkTable.learn`."""
    surveys = _survey_splits(table, frame)
    if False not in surveys:
        raise DataError("there are no training rows")
    survey, trained = surveys[False], frame.where("not validates")
    surveyed = describe_survey(survey, table.columns)
    others = [describe_survey(surveys[True], table.columns)] if True in surveys else []
    check_values(surveyed, *others)
    used = [each for each in surveyed if find_reason(each) is None]
    plan = plan_counts(survey, used)
    limits = CategoryLimits(
        min_category_rows(survey.rows),
        # A category that the user asks for is known even if it is rare.
        {
            plan.find_place(each.column.storage, each.slot)
            for each in used
            if each.column.is_named and is_category(each)
        },
        MAX_CATEGORIES + 1,
    )
    counts = count_frame(table, trained, plan, limits)
    return learn_schema(surveyed, plan, counts, labels, embeds=table.embeds)


def _survey_splits(table: SparkTable, frame: DataFrame) -> dict[bool, TableSurvey]:
    """Return counts and ranges for each value of the column ``validates``, from one pass."""

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
