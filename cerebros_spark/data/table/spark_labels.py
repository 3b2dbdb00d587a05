"""Spark labels: class indices, flattened structs, and removal of rows without a label."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

from pyspark.sql import DataFrame
from pyspark.sql import functions as F  # noqa: N812
from pyspark.sql import types as T  # noqa: N812

from cerebros_spark.core.errors import DataError
from cerebros_spark.data.spark_columns import quote
from cerebros_spark.data.table.labels import MAX_CLASSES, check_num_classes, learn_classes
from cerebros_spark.data.table.schema import LabelClasses
from cerebros_spark.data.table.source import UNSUPPORTED, describe_spark

logger = logging.getLogger(__name__)


def flatten_structs(
    df: DataFrame, names: Sequence[str], others: Sequence[str] = ()
) -> tuple[DataFrame, list[str]]:
    """Replace each struct column by one column for each field, named ``column.field``.

    Args:
        df: A DataFrame.
        names: Names of the columns to flatten; columns that are not structs are kept.
        others: Names of further columns that new columns must not repeat.

    Returns:
        The DataFrame, and ``names`` with each struct replaced by its new columns.

    Raises:
        DataError: If a new column would have the name of another used column, ignoring case.
    """
    flat: list[str] = []
    for name in names:
        data_type = df.schema[name].dataType
        if not isinstance(data_type, T.StructType):
            flat.append(name)
            continue
        fields = [f"{name}.{field.name}" for field in data_type.fields]
        existing = {each.lower() for each in (*names, *others)}
        for new in fields:
            if new.lower() in existing:
                raise DataError(
                    f"the struct {name!r} has a field that would be called {new!r}, as a column "
                    "already is: rename one"
                )
        for field, new in zip(data_type.fields, fields, strict=True):
            df = df.withColumn(new, F.expr(f"{quote(name)}.{quote(field.name)}"))
        df, nested = flatten_structs(df, fields)
        flat += nested
    return df, flat


def drop_unlabeled(df: DataFrame, labels: Sequence[str]) -> DataFrame:
    """Return the rows in which no label is missing; log the number of dropped rows as a warning."""
    nullable = [name for name in labels if df.schema[name].nullable]
    if not nullable:
        return df
    present = " and ".join(f"({present_sql(df, name)})" for name in nullable)
    row = df.agg(F.count(F.lit(1)), F.count_if(~F.expr(present))).head()
    if row is None or row[1] == 0:
        return df
    _warn_of_unlabeled(row[1], row[0])
    return df.where(present)


def _warn_of_unlabeled(missing: int, rows: int) -> None:
    logger.warning("%s of %s rows have no label and are left out", f"{missing:,}", f"{rows:,}")


def index_classes(
    df: DataFrame, name: str, num_classes: int | None = None
) -> tuple[DataFrame, LabelClasses]:
    """Replace a label's classes by their indices (ints), and drop rows without a label.

    ``num_classes`` is the head's number of classes; None if the user did not set it.

    Returns:
        The DataFrame, and the label's classes in the order of their indices.

    Raises:
        DataError: If the values are not classes.
    """
    field = df.schema[name]
    if describe_spark(field).kind == UNSUPPORTED:
        raise DataError(
            f"the label {name!r} has the type {field.dataType.simpleString()}, which has no classes"
        )
    column = F.col(quote(name))
    kinds = (T.BooleanType, T.StringType, T.IntegralType, T.FractionalType)
    if not isinstance(field.dataType, kinds):
        column = column.cast("string")
    counted = df.select(column.alias("value")).groupBy("value").count()
    counts = {row["value"]: row["count"] for row in counted.limit(MAX_CLASSES + 3).collect()}
    missing = sum(n for value, n in counts.items() if value in (None, "") or value != value)
    present = [value for value in counts if value not in (None, "") and value == value]
    classes = learn_classes(name, field.dataType.simpleString(), present)
    classes = check_num_classes(classes, num_classes)
    if missing:
        _warn_of_unlabeled(missing, sum(counts.values()))
        df = df.where(present_sql(df, name))
    if isinstance(field.dataType, T.FractionalType):
        column = column.cast("bigint")
    pairs: list[Any] = [
        F.lit(part) for number, value in enumerate(classes.values) for part in (value, number)
    ]
    key = column.cast("bigint") if isinstance(field.dataType, T.IntegralType) else column
    if isinstance(field.dataType, T.IntegralType | T.FractionalType):
        pairs = [
            F.lit(part).cast("bigint")
            for number, value in enumerate(classes.values)
            for part in (value, number)
        ]
    index = F.element_at(F.create_map(*pairs), key).cast("int")
    return df.withColumn(name, index), classes


def present_sql(df: DataFrame, name: str) -> str:
    """Return SQL for the condition that a label is not null, NaN or an empty string."""
    quoted = quote(name)
    is_float = isinstance(df.schema[name].dataType, T.FloatType | T.DoubleType)
    is_string = isinstance(df.schema[name].dataType, T.StringType)
    more = f" and not isnan({quoted})" if is_float else f" and {quoted} != ''" if is_string else ""
    return f"{quoted} is not null{more}"
