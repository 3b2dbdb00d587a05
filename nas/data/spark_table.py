"""Raw tables in Spark: description of their features, and conversion of labels to indices."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

from cerebros_spark.core.errors import DataError
from nas.data.columns import check_columns
from nas.data.inputs import Columns, flatten_names
from nas.data.table import TableOptions, find_head, has_classes

if TYPE_CHECKING:
    from pyspark.sql import DataFrame


def _check_case(df: DataFrame) -> None:
    """Raise DataError if column names differ only in case and Spark is case-insensitive."""
    if str(df.sparkSession.conf.get("spark.sql.caseSensitive")).lower() == "true":
        return
    counts = Counter(name.lower() for name in df.columns)
    same = [name for name in df.columns if counts[name.lower()] > 1]
    if same:
        raise DataError(
            f"the columns {', '.join(map(repr, same))} have the same name for Spark, which ignores "
            "case: rename them, or set spark.sql.caseSensitive to true"
        )


def describe_spark_table(
    df: DataFrame,
    options: TableOptions,
    features: Columns,
    label_columns: Columns,
) -> tuple[DataFrame, Columns, dict[str, Any]]:
    """Describe the features of a DataFrame, and replace its class labels with class indices.

    Rows without a label are dropped with a warning. Each struct column becomes one column per
    field.

    Args:
        df: The DataFrame.
        options: Options for reading the table.
        features: Names of the feature columns, possibly grouped by input.
        label_columns: Names of the label columns, possibly grouped by head.

    Returns:
        The DataFrame with class indices, the feature names, and the ``table`` and ``classes``
        arguments of ``prepare_spark``.

    Raises:
        ArgumentError: If the type of a feature cannot be used.
        DataError: If a column is missing, or labels do not suit their head.
    """
    from cerebros_spark.data.table.spark_labels import (
        drop_unlabeled,
        flatten_structs,
        index_classes,
    )
    from cerebros_spark.data.table.spark_table import SparkTable

    labels = flatten_names(label_columns)
    check_columns(df.columns, [*flatten_names(features), *labels])
    _check_case(df)
    groups: Columns = []
    for group in features:
        together = [group] if isinstance(group, str) else group
        df, flat = flatten_structs(df, together, [*flatten_names(features), *labels])
        groups += flat if isinstance(group, str) else [flat]
    classes, others = [], []
    for name in labels:
        head = find_head(name, label_columns, options.heads)
        is_array = df.schema[name].dataType.typeName() in ("array", "vector", "vectorudt")
        if has_classes(head) and not is_array:
            df, found = index_classes(df, name, head.num_classes)
            classes.append(found)
        else:
            others.append(name)
    df = drop_unlabeled(df, others)
    names = flatten_names(groups)
    table = SparkTable.create(df, names, options.column_types, embeds=options.embeds)
    return df, groups, {"table": table, "classes": classes}
