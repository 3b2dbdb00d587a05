"""Prepared data for a search: made now, or found in the store."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from cerebros_spark.core.errors import ArgumentError, DataError
from cerebros_spark.data import catalog
from cerebros_spark.data.checks import VALIDATION_DATA
from cerebros_spark.data.manifest import Manifest
from nas.config.binding import Columns, Resources
from nas.data.columns import check_columns
from nas.data.inputs import flatten_names, is_spark, name_columns, warn_if_sorted_by_date
from nas.data.weights import check_bound_weight


@dataclass(frozen=True)
class PreparedData:
    """Prepared data, and how its columns were grouped.

    Attributes:
        manifest: The data.
        features: Names of the features, grouped by model input where there are several; None
            for all of the manifest's.
        labels: Names of the labels, likewise.
    """

    manifest: Manifest
    features: Columns | None
    labels: Columns | None


def prepare_data(
    resources: Resources,
    x: Any,
    y: Any,
    *,
    validation: float | str,
    validation_data: Any,
    sample_weight: Any,
    seed: int,
    shuffle: bool,
    inspect: Callable[[PreparedData], Any],
) -> PreparedData:
    """Prepares what ``fit`` was given.

    Args:
        resources: What was bound.
        x: What ``fit`` was given, as ``y`` and ``validation_data``.
        y: See ``x``.
        validation: Fraction, or name of the column that marks validation rows.
        validation_data: See ``x``.
        sample_weight: See ``x``.
        seed: Seed of the shuffle.
        shuffle: Whether validation rows are drawn at random; otherwise they are the last ones.
        inspect: Called with the data as it will be, before anything is written.

    Raises:
        ArgumentError, DataError: If it can't be trained on.
    """
    if x is None:
        raise ArgumentError("x is missing: pass a Spark DataFrame, or arrays and y")
    partitions = resources.backend.num_workers
    if not is_spark(x):
        from cerebros_spark.data.prepare_arrays import prepare_arrays

        if shuffle and validation_data is None and not isinstance(validation, str):
            warn_if_sorted_by_date(x, y)
        arrays = name_columns(
            x,
            y,
            feature_columns=resources.feature_columns,
            label_columns=resources.label_columns,
            validation=validation,
            validation_data=validation_data,
            sample_weight=sample_weight,
            weight_column=resources.sample_weight_column,
        )
        manifest = prepare_arrays(
            arrays.columns,
            resources.store,
            feature_columns=arrays.features,
            label_columns=arrays.labels,
            validation=arrays.validation,
            partitions=partitions,
            seed=seed,
            weight_column=arrays.weight,
            shuffle=shuffle,
            inspect=lambda planned: inspect(PreparedData(planned, arrays.features, arrays.labels)),
        )
        return PreparedData(manifest, arrays.features, arrays.labels)
    if y is not None:
        raise ArgumentError("y goes with arrays; a Spark DataFrame holds its labels")
    if sample_weight is not None:
        raise ArgumentError(
            "sample_weight goes with arrays; name the column of a Spark DataFrame with "
            "resource_bind(sample_weight_column=...)"
        )
    if not resources.feature_columns or not resources.label_columns:
        raise ArgumentError(
            "a Spark DataFrame needs feature_columns and label_columns: bind them with "
            "resource_bind()"
        )
    from cerebros_spark.data.prepare_spark import prepare_spark

    if validation_data is not None:
        names = [*flatten_names(resources.feature_columns), *flatten_names(resources.label_columns)]
        if resources.sample_weight_column is not None:
            names.append(resources.sample_weight_column)
        x, validation = _marked(x, validation_data, list(dict.fromkeys(names))), VALIDATION_DATA
    manifest = prepare_spark(
        x,
        resources.store,
        feature_columns=resources.feature_columns,
        label_columns=resources.label_columns,
        validation=validation,
        partitions=partitions,
        seed=seed,
        weight_column=resources.sample_weight_column,
        shuffle=shuffle,
        inspect=lambda planned: inspect(
            PreparedData(planned, resources.feature_columns, resources.label_columns)
        ),
    )
    return PreparedData(manifest, resources.feature_columns, resources.label_columns)


def find(resources: Resources, data: str | None) -> PreparedData:
    """Data that was prepared before.

    Args:
        resources: What was bound; its columns, if any, must be in the data.
        data: The data's fingerprint; None for the only one.

    Raises:
        DataError: If there is no such data, it is cut for another number of workers, or it has
            not the sample weights that are bound.
    """
    store = resources.store
    found = catalog.list_manifests(store)
    names = ", ".join(manifest.fingerprint for manifest in found) or "none"
    fitting = [m for m in found if data is None or m.fingerprint == data]
    if len(fitting) != 1:
        raise DataError(
            f"one prepared data set was looked for in {store.url} (data={data!r}), but "
            f"{len(fitting)} were found; there are: {names}"
        )
    manifest = fitting[0]
    if manifest.partitions != resources.backend.num_workers:
        raise DataError(
            f"the data is cut into {manifest.partitions} partitions, but the backend has "
            f"{resources.backend.num_workers} workers; use as many, or call fit()"
        )
    check_bound_weight(resources.sample_weight_column, manifest.weight)
    return PreparedData(manifest, resources.feature_columns, resources.label_columns)


def _marked(df: Any, validation: Any, names: Sequence[str]) -> Any:
    """The named columns of both DataFrames, and a mark on the rows of the second."""
    from pyspark.sql.functions import lit

    from cerebros_spark.data.spark_columns import quote

    if not is_spark(validation):
        raise ArgumentError("validation_data must be a Spark DataFrame, as x is")
    parts = []
    for each, argument in ((df, "x"), (validation, "validation_data")):
        check_columns(each.columns, names, argument)
        chosen = each.select(*(quote(name) for name in names))
        parts.append((chosen, {field.name: field.dataType for field in chosen.schema.fields}))
    (train, kinds), (validating, others) = parts
    for name in names:
        if not _are_alike(kinds[name], others[name]):
            raise DataError(
                f"the column {name!r} is {others[name].simpleString()} in validation_data, but "
                f"{kinds[name].simpleString()} in x: cast one of them"
            )
    return train.withColumn(VALIDATION_DATA, lit(False)).unionByName(
        validating.withColumn(VALIDATION_DATA, lit(True))
    )


def _are_alike(kind: Any, other: Any) -> bool:
    """Whether Spark joins columns of two types without turning numbers into strings."""
    from pyspark.sql.types import ArrayType, NumericType

    if isinstance(kind, ArrayType) and isinstance(other, ArrayType):
        return _are_alike(kind.elementType, other.elementType)
    return kind == other or (isinstance(kind, NumericType) and isinstance(other, NumericType))
