"""Data of a search: prepared now or found in the store, and resolved to inputs and targets."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from cerebros_spark.backends.spark_errors import explain_python_mismatch
from cerebros_spark.backends.spark_stack import check_classic
from cerebros_spark.core.errors import ArgumentError, DataError
from cerebros_spark.data import catalog
from cerebros_spark.data.checks import VALIDATION_DATA
from cerebros_spark.data.layout import input_dtype
from cerebros_spark.data.manifest import Layout, Manifest
from nas.config.binding import Columns, Resources
from nas.data.columns import check_columns
from nas.data.heads import Target
from nas.data.inputs import flatten_names, is_spark, name_columns, warn_if_sorted_by_date
from nas.data.spark_table import describe_spark_table
from nas.data.table import is_table, name_table
from nas.data.weights import check_bound_weight


@dataclass(frozen=True)
class PreparedData:
    """Prepared data, with its feature and label names grouped by input and output.

    Names of None select all feature or label columns in the manifest.
    """

    manifest: Manifest
    features: Columns | None
    labels: Columns | None


@dataclass(frozen=True)
class SearchData:
    """Prepared data, with the columns of the inputs (``layout``) and the outputs (``targets``)."""

    manifest: Manifest
    layout: Layout
    targets: tuple[Target, ...]

    @property
    def input_dtypes(self) -> tuple[str, ...]:
        """Dtype of each input."""
        return tuple(input_dtype(self.manifest, group) for group in self.layout.inputs)

    @property
    def label_forms(self) -> list[tuple[tuple[int, ...], str]]:
        """Row shape and dtype of each output's labels."""
        return [(target.label_shape, target.label_dtype) for target in self.targets]

    def steps_per_epoch(self, batch_size: int) -> int:
        """Return the number of training steps per epoch, summed over the partitions."""
        return sum(math.ceil(shard.rows / batch_size) for shard in self.manifest.train)


def prepare_data(
    resources: Resources,
    x: Any,
    y: Any,
    *,
    heads: Sequence[Any] | None,
    validation: float | str,
    validation_data: Any,
    sample_weight: Any,
    seed: int,
    shuffle: bool,
    inspect: Callable[[PreparedData], Any],
) -> PreparedData:
    """Prepare the data that ``fit`` was called with.

    Args:
        resources: The bound resources.
        x: As in ``HyperHyperModel.fit``.
        y: As in ``fit``.
        heads: Heads of the outputs, if the networks read raw tables; otherwise None.
        validation: Fraction of validation rows, or name of the column that marks them.
        validation_data: As in ``fit``.
        sample_weight: As in ``fit``.
        seed: Seed of the split and the shuffle.
        shuffle: As in ``fit``.
        inspect: Function that is called with the planned data before anything is written.

    Raises:
        ArgumentError, DataError: If a search cannot train on the data.
    """
    if x is None:
        raise ArgumentError("x is missing: pass a Spark DataFrame, or arrays and y")
    features, labels = resources.feature_columns, resources.label_columns
    weight = resources.sample_weight_column
    prepare: Callable[..., Manifest]
    raw: dict[str, Any] = {}
    if is_table(x) and heads is not None:
        from cerebros_spark.data.prepare_arrays import prepare_arrays as prepare

        if shuffle and validation_data is None and not isinstance(validation, str):
            warn_if_sorted_by_date(x, y)
        named = name_table(
            x,
            y,
            heads,
            feature_columns=features,
            label_columns=labels,
            validation=validation,
            validation_data=validation_data,
            sample_weight=sample_weight,
            weight_column=weight,
            column_types=resources.column_types,
        )
        raw = {"table": named.table, "classes": named.classes}
        data, features, labels = named.columns, named.features, named.labels
        validation, weight = named.validation, named.weight
    elif is_spark(x):
        from cerebros_spark.data.prepare_spark import prepare_spark as prepare

        check_classic(x, "x")
        if isinstance(y, str):
            y, labels = None, [y]
        features = _find_spark_features(resources, x, labels, validation) if heads else features
        _check_spark_arguments(features, labels, y, sample_weight)
        data = x
        if validation_data is not None:
            names = [
                *flatten_names(features),
                *flatten_names(labels),
                *([] if weight is None else [weight]),
            ]
            data = _mark_validation(x, validation_data, list(dict.fromkeys(names)))
            validation = VALIDATION_DATA
        if heads is not None:
            data, features, raw = describe_spark_table(
                data, heads, features or [], flatten_names(labels), resources.column_types
            )
    else:
        from cerebros_spark.data.prepare_arrays import prepare_arrays as prepare

        if shuffle and validation_data is None and not isinstance(validation, str):
            warn_if_sorted_by_date(x, y)
        arrays = name_columns(
            x,
            y,
            feature_columns=features,
            label_columns=labels,
            validation=validation,
            validation_data=validation_data,
            sample_weight=sample_weight,
            weight_column=weight,
        )
        data, features, labels = arrays.columns, arrays.features, arrays.labels
        validation, weight = arrays.validation, arrays.weight
    with explain_python_mismatch():
        manifest = prepare(
            data,
            resources.store,
            feature_columns=features,
            label_columns=labels,
            validation=validation,
            partitions=resources.backend.num_workers,
            seed=seed,
            weight_column=weight,
            shuffle=shuffle,
            inspect=lambda planned: inspect(PreparedData(planned, features, labels)),
            **raw,
        )
    return PreparedData(manifest, features, labels)


def _find_spark_features(
    resources: Resources, df: Any, labels: Columns | None, validation: float | str
) -> Columns:
    """Return the bound features; by default, all columns that have no other role."""
    if resources.feature_columns:
        return resources.feature_columns
    others = {*flatten_names(labels), resources.sample_weight_column, validation}
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
            "a Spark DataFrame needs feature_columns and label_columns: bind them with "
            "resource_bind()"
        )


def find_data(resources: Resources, fingerprint: str | None) -> PreparedData:
    """Find prepared data in the store by its fingerprint; None selects the only data set there.

    Raises DataError unless exactly one data set is found and fits the workers and the bound
    weights.
    """
    store = resources.store
    manifests = catalog.list_manifests(store)
    matches = [m for m in manifests if fingerprint is None or m.fingerprint == fingerprint]
    if len(matches) != 1:
        names = ", ".join(manifest.fingerprint for manifest in manifests) or "none"
        raise DataError(
            f"{store.url} must hold one prepared data set with data={fingerprint!r}, but "
            f"{len(matches)} were found; there are: {names}"
        )
    manifest = matches[0]
    if manifest.partitions != resources.backend.num_workers:
        raise DataError(
            f"the data is cut into {manifest.partitions} partitions, but the backend has "
            f"{resources.backend.num_workers} workers; use as many workers, or call fit()"
        )
    check_bound_weight(resources.sample_weight_column, manifest.weight)
    return PreparedData(manifest, resources.feature_columns, resources.label_columns)


def _mark_validation(df: Any, validation: Any, names: Sequence[str]) -> Any:
    """Unite the named columns of both DataFrames, and mark the rows of the second."""
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
