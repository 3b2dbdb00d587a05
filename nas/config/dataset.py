"""Preparation of a search's data, its lookup in the store, and classes that describe it."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from cerebros_spark.backends.spark_errors import explain_python_mismatch
from cerebros_spark.core.errors import ArgumentError, DataError
from cerebros_spark.data import catalog
from cerebros_spark.data.layout import input_dtype
from cerebros_spark.data.manifest import Layout, Manifest
from nas.config.binding import Columns, Resources
from nas.config.sources import DataArguments, read_arguments
from nas.data.heads import Target
from nas.data.table import TableOptions
from nas.data.weights import check_bound_weight


@dataclass(frozen=True)
class PreparedData:
    """Prepared data, with its feature and label names grouped by input and output.

    If the feature or label names are None, all such columns in the manifest are used.
    """

    manifest: Manifest
    features: Columns | None
    labels: Columns | None


@dataclass(frozen=True)
class SearchData:
    """Prepared data, with each model input's columns (``layout``) and the outputs' ``targets``."""

    manifest: Manifest
    layout: Layout
    targets: tuple[Target, ...]

    @property
    def input_dtypes(self) -> tuple[str, ...]:
        """Dtype of each input."""
        return tuple(input_dtype(self.manifest, group) for group in self.layout.inputs)

    @property
    def label_forms(self) -> list[tuple[tuple[int, ...], str]]:
        """Shape of one row, and dtype, of each output's labels."""
        return [(target.label_shape, target.label_dtype) for target in self.targets]

    def steps_per_epoch(self, batch_size: int, passes: int = 1) -> int:
        """Return the number of training steps per epoch, summed over the partitions.

        ``batch_size`` is the number of rows per step. ``passes`` is the number of times that a
        trial reads a partition's rows in each epoch.
        """
        return sum(math.ceil(shard.rows * passes / batch_size) for shard in self.manifest.train)


def prepare_data(
    resources: Resources,
    x: Any,
    y: Any,
    *,
    table: TableOptions | None,
    validation: float | str,
    validation_data: Any,
    sample_weight: Any,
    seed: int,
    shuffle: bool,
    inspect: Callable[[PreparedData], Any],
) -> PreparedData:
    """Prepare the data passed to ``fit``, and write it to the store.

    Args:
        resources: The bound resources.
        x: The features, as in ``HyperHyperModel.fit``.
        y: The labels, as in ``fit``.
        table: Options for reading raw tables; None if the networks cannot read raw tables.
        validation: Fraction of validation rows, or name of the column that marks them.
        validation_data: Validation features and labels, as in ``fit``; None if not given.
        sample_weight: Sample weights, as in ``fit``; None if not given.
        seed: Seed of the split and the shuffle.
        shuffle: Whether to shuffle the rows, as in ``fit``.
        inspect: Function called with a description of the data before anything is written.

    Raises:
        ArgumentError, DataError: If a search cannot train on the data.
    """
    if x is None:
        raise ArgumentError("x is missing: pass a Spark DataFrame, a table, or arrays and y")
    arguments = DataArguments(
        resources, x, y, table, validation, validation_data, sample_weight, seed, shuffle
    )
    source = read_arguments(arguments)
    with explain_python_mismatch():
        manifest = source.prepare(
            source.data,
            resources.store,
            feature_columns=source.features,
            label_columns=source.labels,
            validation=source.validation,
            partitions=resources.backend.num_workers,
            seed=seed,
            weight_column=source.weight,
            shuffle=shuffle,
            inspect=lambda planned: inspect(PreparedData(planned, source.features, source.labels)),
            **source.raw,
        )
    return PreparedData(manifest, source.features, source.labels)


def find_data(resources: Resources, fingerprint: str | None) -> PreparedData:
    """Return the prepared data in the store that has the given fingerprint.

    If ``fingerprint`` is None, the store must contain only one data set. Raises DataError unless
    exactly one is found and fits the number of workers and the bound weights.
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
