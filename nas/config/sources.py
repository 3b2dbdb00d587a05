"""Conversion of ``fit`` arguments (tables, Spark DataFrames or arrays) for data preparation."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import pyarrow as pa

from cerebros_spark.backends.spark_stack import check_classic
from cerebros_spark.core.errors import ArgumentError, DataError
from cerebros_spark.data.checks import SPLIT, VALIDATION_DATA
from cerebros_spark.data.manifest import Manifest
from nas.config.binding import Columns, Resources
from nas.data.columns import check_columns
from nas.data.frames import is_spark, is_table, to_frame
from nas.data.inputs import (
    NamedColumns,
    flatten_names,
    name_columns,
    warn_if_sorted_by_date,
)
from nas.data.spark_table import describe_spark_table
from nas.data.splits import SplitRule, make_rule
from nas.data.table import TableOptions, name_table

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class DataArguments:
    """Arguments of ``fit`` and ``resource_bind`` that define the data.

    ``table`` holds the options for reading raw tables; None if the networks cannot read them.
    """

    resources: Resources
    x: Any
    y: Any
    table: TableOptions | None
    validation: float | str
    validation_data: Any
    sample_weight: Any
    seed: int
    shuffle: bool


@dataclass(frozen=True)
class PreparationInput:
    """Input of a data preparation: the function ``prepare``, its data, and the columns by role.

    ``validation`` is the fraction of validation rows, or the name of the column that marks them.
    ``raw`` holds the additional arguments of ``prepare`` that describe a raw table.
    """

    prepare: Callable[..., Manifest]
    data: Any
    features: Columns | None
    labels: Columns | None
    validation: float | str
    weight: str | None
    raw: Mapping[str, Any] = field(default_factory=dict)


def read_arguments(arguments: DataArguments) -> PreparationInput:
    """Convert the arguments of ``fit`` to the input of a data preparation.

    Raises:
        ArgumentError, DataError: If a search cannot train on the data.
    """
    bound, x = arguments.resources, arguments.x
    rule = make_rule(
        bound.group_column,
        bound.time_column,
        arguments.validation,
        arguments.validation_data,
        arguments.seed,
    )
    if is_spark(x):
        return _read_spark(arguments, rule)
    if arguments.table is not None and is_table(x):
        return _read_table(arguments, arguments.table, rule)
    if rule is not None:
        raise _make_rule_error(rule)
    return _read_arrays(arguments)


def _make_rule_error(rule: SplitRule) -> ArgumentError:
    return ArgumentError(
        f"{rule.argument} is for tables (pandas, Arrow or Spark) and networks of heads: mark the "
        "validation rows, and name the column in validation"
    )


def _read_table(
    arguments: DataArguments, options: TableOptions, rule: SplitRule | None
) -> PreparationInput:
    bound = arguments.resources
    if rule is None:
        _warn_if_sorted(arguments)
    named = name_table(
        arguments.x,
        arguments.y,
        options,
        feature_columns=bound.feature_columns,
        label_columns=bound.label_columns,
        validation=arguments.validation,
        validation_data=arguments.validation_data,
        sample_weight=arguments.sample_weight,
        weight_column=bound.sample_weight_column,
        rule=rule,
    )
    return _use_arrays(named, {"table": named.table, "classes": named.classes})


def _read_spark(arguments: DataArguments, rule: SplitRule | None) -> PreparationInput:
    from cerebros_spark.data.prepare_spark import prepare_spark

    bound, data, options = arguments.resources, arguments.x, arguments.table
    check_classic(data, "x")
    y, labels, validation = arguments.y, bound.label_columns, arguments.validation
    if isinstance(y, str):
        labels, y = [y], None
    features = bound.feature_columns
    if options is not None and not features:
        features = _find_spark_features(bound, data, labels, validation)
    _check_spark_arguments(features, labels, y, arguments.sample_weight)
    weight = bound.sample_weight_column
    if arguments.validation_data is not None:
        names = [*flatten_names(features), *flatten_names(labels), *([weight] if weight else [])]
        data = _mark_validation(data, arguments.validation_data, list(dict.fromkeys(names)))
        validation = VALIDATION_DATA
    if options is not None:
        marked = replace(arguments, x=data, validation=validation)
        collected = _collect_small(marked, flatten_names(features), flatten_names(labels))
        if collected is not None:
            return _read_table(collected, options, rule)
    if options is None:
        if rule is not None:
            raise _make_rule_error(rule)
        return PreparationInput(prepare_spark, data, features, labels, validation, weight)
    data, features, raw = describe_spark_table(data, options, features or [], labels or [])
    if rule is not None:
        data, validation = rule.mark_spark(data, SPLIT), SPLIT
    return PreparationInput(prepare_spark, data, features, labels, validation, weight, raw)


def _collect_small(
    arguments: DataArguments, features: Sequence[str], labels: Sequence[str]
) -> DataArguments | None:
    """Return the arguments with a small Spark DataFrame as an Arrow table; None if not small.

    This saves time, because Spark would prepare even a few rows in about ten jobs of a second each.
    """
    from cerebros_spark.data.table.collection import collect_small, sort_rows

    bound = arguments.resources
    is_fraction = not isinstance(arguments.validation, str)
    if is_fraction and not arguments.shuffle:
        return None  # refused: rows have no order
    mark = [] if is_fraction else [str(arguments.validation)]
    others = [bound.sample_weight_column, bound.group_column, bound.time_column, *mark]
    names = list(dict.fromkeys([*features, *labels, *(name for name in others if name)]))
    is_random = is_fraction and bound.time_column is None
    times = _find_times(arguments.x) if is_random else []
    table = collect_small(arguments.x, list(dict.fromkeys([*names, *times])), bound.collect_rows)
    if table is None:
        return None
    if times:
        warn_if_sorted_by_date(table.select(times).to_pandas(date_as_object=False))
    table = table.select(names)
    logger.info("the DataFrame has few rows (%s): it is prepared on the driver", table.num_rows)
    resources = replace(bound, feature_columns=bound.feature_columns or list(features))
    return replace(arguments, resources=resources, x=sort_rows(table), validation_data=None)


def _find_times(df: Any) -> list[str]:
    kinds = ("date", "timestamp", "timestamp_ntz")
    return [field.name for field in df.schema.fields if field.dataType.typeName() in kinds]


def _read_arrays(arguments: DataArguments) -> PreparationInput:
    bound, x, y = arguments.resources, arguments.x, arguments.y
    _warn_if_sorted(arguments)
    labels = bound.label_columns
    if isinstance(y, str):
        labels, y = [y], None
    named = name_columns(
        to_frame(x) if isinstance(x, pa.Table) else x,
        y,
        feature_columns=bound.feature_columns,
        label_columns=labels,
        validation=arguments.validation,
        validation_data=arguments.validation_data,
        sample_weight=arguments.sample_weight,
        weight_column=bound.sample_weight_column,
    )
    return _use_arrays(named, {})


def _use_arrays(named: NamedColumns, raw: Mapping[str, Any]) -> PreparationInput:
    """Return the input for preparing named arrays without Spark."""
    from cerebros_spark.data.prepare_arrays import prepare_arrays

    return PreparationInput(
        prepare_arrays,
        named.columns,
        named.features,
        named.labels,
        named.validation,
        named.weight,
        raw,
    )


def _warn_if_sorted(arguments: DataArguments) -> None:
    is_random = arguments.shuffle and arguments.validation_data is None
    if is_random and not isinstance(arguments.validation, str):
        warn_if_sorted_by_date(arguments.x, arguments.y)


def _find_spark_features(
    resources: Resources, df: Any, labels: Columns | None, validation: float | str
) -> Columns:
    """Return the names of all columns that are not labels, weights, groups or validation marks."""
    others = {*flatten_names(labels), resources.sample_weight_column, validation}
    others.add(resources.group_column)
    return [name for name in df.columns if name not in others]


def _check_spark_arguments(
    features: Columns | None, labels: Columns | None, y: Any, sample_weight: Any
) -> None:
    if y is not None:
        raise ArgumentError(
            "y goes with arrays; a Spark DataFrame holds its labels: pass the name of their column"
        )
    if sample_weight is not None:
        raise ArgumentError(
            "sample_weight goes with arrays; name the column of a Spark DataFrame with "
            "resource_bind(sample_weight_column=...)"
        )
    if not features or not labels:
        raise ArgumentError(
            "a Spark DataFrame needs the name of its label, as y or label_columns, and features: "
            "bind them with resource_bind()"
        )


def _mark_validation(df: Any, validation: Any, names: Sequence[str]) -> Any:
    """Return both DataFrames' columns ``names`` in one DataFrame, with validation rows marked."""
    from pyspark.sql.functions import lit

    from cerebros_spark.data.spark_columns import quote

    if not is_spark(validation):
        raise ArgumentError("validation_data must be a Spark DataFrame, as x is")
    selections = []
    for each, argument in ((df, "x"), (validation, "validation_data")):
        check_columns(each.columns, names, argument)
        selections.append(each.select(*(quote(name) for name in names)))
    types, other_types = (
        {field.name: field.dataType for field in selection.schema.fields}
        for selection in selections
    )
    for name in names:
        if not _are_compatible(types[name], other_types[name]):
            raise DataError(
                f"the column {name!r} is {other_types[name].simpleString()} in validation_data, "
                f"but {types[name].simpleString()} in x: cast one of them"
            )
    train, held_out = selections
    return train.withColumn(VALIDATION_DATA, lit(False)).unionByName(
        held_out.withColumn(VALIDATION_DATA, lit(True))
    )


def _are_compatible(one: Any, other: Any) -> bool:
    """Return whether Spark can union columns of two types without casting numbers to strings."""
    from pyspark.sql.types import ArrayType, NumericType

    if isinstance(one, ArrayType) and isinstance(other, ArrayType):
        return _are_compatible(one.elementType, other.elementType)
    return one == other or (isinstance(one, NumericType) and isinstance(other, NumericType))
