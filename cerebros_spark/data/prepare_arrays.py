"""Preparation of in-memory arrays as P training and P validation shards, without Spark.

The result has the same format as that of :mod:`cerebros_spark.data.prepare_spark`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa
from pandas.util import hash_array

from cerebros_spark.core.errors import DataError
from cerebros_spark.core.seeding import derive_seed
from cerebros_spark.data import catalog, checks
from cerebros_spark.data.checks import ColumnCounts, DataRequest, describe_fields
from cerebros_spark.data.float32 import Variation, worst_variation
from cerebros_spark.data.manifest import Column, Manifest, Shard
from cerebros_spark.data.parquet_writer import rows_per_file, to_arrow, write_file
from cerebros_spark.data.splits import allocate, are_classes, validation_size
from cerebros_spark.data.table.arrow_table import ArrowTable, combine_hashes
from cerebros_spark.data.table.schema import LabelClasses
from cerebros_spark.storage.store import Store

_INTEGERS = {
    **dict.fromkeys(("bool", "int8", "uint8", "int16", "uint16", "int32"), "int32"),
    **dict.fromkeys(("uint32", "int64", "uint64"), "int64"),
}
_CHUNK_BYTES = 2**25
_GREATEST = 2**63 - 1

Arrays = Mapping[str, np.ndarray]
RowNumbers = list[np.ndarray]


def prepare_arrays(
    columns: Arrays,
    store: Store,
    *,
    inspect: Callable[[Manifest], None] | None = None,
    table: ArrowTable | None = None,
    classes: Sequence[LabelClasses] = (),
    **arguments: Any,
) -> Manifest:
    """Prepare arrays: split them into shuffled shards of equal size, with a manifest.

    In the shards, fractional numbers are float32, and booleans and integers are int32, except that
    int64, uint32 and uint64 become int64. The shuffle and the split depend on the rows, their order
    and the seed. The partitions, and random splits, are stratified by the label classes. If the
    store already contains the same data, prepared with the same arguments, it is reused.

    Args:
        columns: Arrays of shape ``(n,)`` or ``(n, d1, …)`` by column name, all with the same ``n``.
            Arrays of higher rank are stored flat; the manifest records their shape.
        store: Store of the shards, which workers must also be able to access.
        inspect: Called with the manifest, before it lists any shards and before anything is
            written; an exception aborts the preparation. If None, there is no such check.
        table: The features as a raw table; ``columns`` must then contain no features. The encoding
            is learned from the training rows. None if ``columns`` contains the features.
        classes: Original classes of the labels that ``columns`` contains as class indices.
        **arguments: Arguments of :func:`~cerebros_spark.data.checks.check_request`.

    Returns:
        The manifest, which is also in the store.

    Raises:
        ArgumentError: If an argument is invalid; nothing is written.
        DataError: If models cannot be trained on the data; nothing is written.
        StoreError: If the shards cannot be written; partial results are deleted.
    """
    raw_names = [] if table is None else [column.name for column in table.columns]
    request = checks.check_request([*columns, *raw_names], **arguments)
    checks.check_address(store)
    mark = _check_mark(columns, request)
    arrays = {name: np.ma.asanyarray(columns[name]) for name in request.columns if name in columns}
    rows = _count_rows(arrays if mark is None else {**arrays, str(request.validation): mark})
    described = _describe_columns(arrays, request)
    stored = {c.name: _cast(arrays[c.name], c) for c in described}
    checks.check_counts(rows, [_count_bad(c, arrays[c.name], stored[c.name]) for c in described])
    described = [_inspect_label(c, stored[c.name]) if c.role == "label" else c for c in described]
    train, held_out = _split(rows, mark, request, _get_row_classes(stored, described))
    content = ["arrays", _hash_content(stored, mark)]
    if table is not None:
        content += [table.digest(), *(str(each.values) for each in classes)]
    name = checks.fingerprint(content, described, request)
    manifest = catalog.find(store, name, inspect)
    if manifest is not None:
        return manifest
    train_rows, held_out_rows = np.concatenate(train), np.concatenate(held_out)
    described = [_add_moments(c, stored[c.name], train_rows) for c in described]
    weights = [stored[c.name][held_out_rows].max() for c in described if c.role == "weight"]
    checks.check_weights(described, float(max(weights, default=1)))
    schema = None
    if table is not None:
        hashes = _hash_rows(table, stored)
        shared = int(np.isin(hashes[held_out_rows], hashes[train_rows]).sum())
        checks.log_duplicates(shared, len(held_out_rows))
        schema = table.learn(np.sort(train_rows), classes)
        described = [*describe_fields(schema, request), *described]
        stored = {**table.encode(schema.columns), **stored}

    def write_shards(folder: str) -> tuple[catalog.Shards, catalog.Shards]:
        return (
            _write_shards(store, f"{folder}/train", described, stored, train),
            _write_shards(store, f"{folder}/validation", described, stored, held_out),
        )

    planned = Manifest(name, tuple(described), (), (), request.seed, schema)
    return catalog.write(store, planned, inspect, write_shards)


def _hash_rows(table: ArrowTable, stored: Arrays) -> np.ndarray:
    """Return a hash of each row, from its features, labels and weight."""
    values = [array.reshape(len(array), -1) for array in stored.values()]
    hashed = [hash_array(column) for array in values for column in array.T]
    return combine_hashes([table.hash_rows(), *hashed], table.rows)


def _check_mark(columns: Arrays, request: DataRequest) -> np.ndarray | None:
    """Return the array that marks validation rows; None if ``validation`` is a fraction."""
    if not isinstance(request.validation, str):
        return None
    mark = columns[request.validation]
    if np.ma.is_masked(mark):
        nulls = int(np.ma.getmaskarray(mark).sum())
        raise DataError(
            f"the validation column {request.validation!r} has nulls in {nulls:,} of "
            f"{len(mark):,} rows: fill them with true (validates) or false first"
        )
    mark = np.asarray(mark)
    if mark.dtype != bool or mark.ndim != 1:
        raise checks.validation_type_error(request.validation, _describe_type(mark))
    return mark


def _describe_type(array: np.ndarray) -> str:
    return f"{array.dtype} of shape {array.shape}"


def _count_rows(arrays: Arrays) -> int:
    """Count the rows; raise DataError if columns differ in length."""
    lengths = {name: len(array) if array.ndim else 0 for name, array in arrays.items()}
    first = next(iter(lengths))
    for name, length in lengths.items():
        if length != lengths[first]:
            raise DataError(
                f"the column {name!r} has {length:,} rows, but {first!r} has {lengths[first]:,}"
            )
    return lengths[first]


def _describe_columns(arrays: Arrays, request: DataRequest) -> list[Column]:
    """Describe the columns as they will be stored, without statistics."""
    described = []
    stored = dict(zip(request.columns, checks.stored_names(request.columns), strict=True))
    for name, array in arrays.items():
        file_name = stored[name]
        dtype = "float32" if array.dtype.kind == "f" else _INTEGERS.get(array.dtype.name)
        if dtype is None or array.ndim == 0:
            raise checks.column_type_error(name, _describe_type(array))
        if array.dtype.name == "uint64" and array.size and array.max() > _GREATEST:
            raise DataError(
                f"the column {name!r} holds {array.max()}, more than {_GREATEST}, the greatest "
                "integer that can be stored: divide it or cast it to float64 first"
            )
        if request.role(name) == "weight":
            dtype = "float32"
            if array.ndim > 1:
                raise checks.weight_type_error(name, _describe_type(array))
        stored_as = "" if file_name == name else file_name
        shape = tuple(int(size) for size in array.shape[1:])
        described.append(Column(name, dtype, shape, request.role(name), stored_as=stored_as))
    return described


def _cast(array: np.ndarray, column: Column) -> np.ndarray:
    """Cast values to the stored type: shape ``(n,)`` or ``(n, width)``, C order."""
    with np.errstate(over="ignore"):  # too large numbers become infinite, and are rejected later
        values = np.ascontiguousarray(np.ma.getdata(array), dtype=column.dtype)
    return values.reshape(len(values), column.width) if column.shape else values


def _count_bad(column: Column, array: np.ndarray, values: np.ndarray) -> ColumnCounts:
    """Count rows that models cannot be trained on, from the user's array and the stored values."""
    flat = values.reshape(len(values), values.size // max(len(values), 1))
    nans = infinities = nulls = 0
    if values.dtype.kind == "f":
        nans = int(np.isnan(flat).any(axis=1).sum())
        infinities = int(np.isinf(flat).any(axis=1).sum())
    masked = np.ma.getmask(array)
    if masked is not np.ma.nomask:
        nulls = int(masked.reshape(flat.shape).any(axis=1).sum())
    is_array, is_weight = values.ndim > 1, column.role == "weight"
    weights: np.ndarray = np.ma.getdata(array) if is_weight and len(values) else np.zeros(1)
    return ColumnCounts(
        column.name,
        nulls=0 if is_array else nulls,
        nans=nans,
        infinities=infinities,
        null_elements=nulls if is_array else 0,
        lengths=(flat.shape[1],) * 2 if is_array else None,
        negatives=int((weights < 0).sum()),
        least=float(weights.min()),
        variation=None if nans or infinities or nulls else _find_worst_variation(column, array),
    )


def _find_worst_variation(column: Column, array: np.ndarray) -> Variation | None:
    """Return the first element's variation that is lost in the cast to float32, or None."""
    is_cast = column.dtype == "float32" and array.dtype != np.float32
    if not is_cast or column.role == "weight" or array.size == 0:
        return None
    values = np.ma.getdata(array).reshape(len(array), -1)
    statistics = (values.mean(axis=0), values.min(axis=0), values.max(axis=0))
    return worst_variation(*(each.astype(float).tolist() for each in statistics))


def _split(
    rows: int, mark: np.ndarray | None, request: DataRequest, classes: Sequence[np.ndarray]
) -> tuple[RowNumbers, RowNumbers]:
    """Return the row indices of each training and each validation shard, in random order."""
    held_out = validation_size(rows, float(request.validation)) if mark is None else 0
    if mark is None and not request.shuffle:
        mark = np.arange(rows) >= rows - held_out
    generator = np.random.Generator(np.random.PCG64(derive_seed(request.seed, "prepare")))
    order = generator.permutation(rows)
    place = np.empty_like(order)
    place[order] = np.arange(rows)
    if classes:
        order = order[np.lexsort([values[order] for values in reversed(classes)])]
    if mark is not None:
        validates = mark[order]
    else:
        counts = np.unique(classes[0], return_counts=True)[1].tolist() if classes else [rows]
        validates = np.concatenate(
            [_mark_evenly(s.rows, s.validation) for s in allocate(counts, held_out)]
        )
    train, validation = order[~validates], order[validates]
    checks.check_split(len(train), len(validation), request)
    return _deal(train, place, request.partitions), _deal(validation, place, request.partitions)


def _mark_evenly(rows: int, marked: int) -> np.ndarray:
    """Return ``rows`` booleans, of which ``marked``, evenly spaced, are True."""
    numbers = np.arange(rows)
    marks: np.ndarray = (numbers + 1) * marked // rows > numbers * marked // rows
    return marks


def _deal(rows: np.ndarray, place: np.ndarray, partitions: int) -> RowNumbers:
    """Assign row indices to shards in turn; sort each shard by ``place``, the shuffled position."""
    shards = [rows[number::partitions] for number in range(partitions)]
    return [shard[np.argsort(place[shard])] for shard in shards]


def _get_row_classes(stored: Arrays, columns: Sequence[Column]) -> list[np.ndarray]:
    """Return an array with the class of each row, for each label used to stratify the split."""
    row_classes = []
    for column in columns:
        values = stored[column.name]
        if column.role != "label":
            continue
        if column.classes is not None and are_classes(len(values), len(column.classes)):
            row_classes.append(values.reshape(-1))
        elif column.width > 1 and column.off_one_hot == 0:
            row_classes.append(values.argmax(axis=1))
    return row_classes


def _hash_content(stored: Arrays, mark: np.ndarray | None) -> str:
    content = hashlib.blake2b(digest_size=16)
    for values in [*stored.values(), *([] if mark is None else [np.ascontiguousarray(mark)])]:
        content.update(f"{values.dtype}{values.shape}".encode())
        content.update(values.reshape(-1).view(np.uint8).data)
    return content.hexdigest()


def _add_moments(column: Column, values: np.ndarray, rows: np.ndarray) -> Column:
    """Return the column with its mean and population variance over ``rows``.

    Both are computed in float64, in two chunked passes.
    """
    first = values[:1].reshape(1, -1)
    # Float64 lacks some integers above 2^53, but their distances from the first value are exact.
    origin = first if values.dtype.kind == "i" and np.abs(first).max() > 2**52 else 0

    def chunks() -> Iterator[np.ndarray]:
        chunk_rows = max(1, _CHUNK_BYTES // (8 * (values.size // len(values))))
        for start in range(0, len(rows), chunk_rows):
            part = values[rows[start : start + chunk_rows]]
            yield (part.reshape(len(part), -1) - origin).astype(np.float64)

    mean = sum(chunk.sum(axis=0) for chunk in chunks()) / len(rows)
    variance = sum(np.square(chunk - mean).sum(axis=0) for chunk in chunks()) / len(rows)
    moments = (np.asarray(mean + np.float64(origin)).reshape(-1), np.asarray(variance))
    as_tuples = [tuple(each.tolist()) for each in moments]
    return msgspec.structs.replace(column, mean=as_tuples[0], variance=as_tuples[1])


def _inspect_label(column: Column, values: np.ndarray) -> Column:
    """Return a label column with its classes and its numbers of non-binary and non-one-hot rows."""
    if column.shape:
        off_binary = ((values != 0) & (values != 1)).any(axis=1)
        off_one_hot = int((off_binary | (values.sum(axis=1) != 1)).sum())
        off = {"off_binary": int(off_binary.sum()), "off_one_hot": off_one_hot}
        column = msgspec.structs.replace(column, **off)
    if column.width == 1 and np.array_equal(values, np.floor(values)):
        classes = np.unique(values)
        if len(classes) <= checks.CLASS_LIMIT:
            column = msgspec.structs.replace(column, classes=tuple(map(int, classes)))
    return column


def _write_shards(
    store: Store, key: str, columns: Sequence[Column], stored: Arrays, shard_rows: RowNumbers
) -> tuple[Shard, ...]:
    shards = []
    file_rows = rows_per_file(columns)
    for number, rows in enumerate(shard_rows):
        folder = f"{key}/shard={number}"
        files = [
            write_file(
                store, folder, file, _make_table(columns, stored, rows[start:][:file_rows]), columns
            )
            for file, start in enumerate(range(0, len(rows), file_rows))
        ]
        shards.append(Shard(folder, len(rows), tuple(files)))
    return tuple(shards)


def _make_table(columns: Sequence[Column], stored: Arrays, rows: np.ndarray) -> pa.Table:
    data = {}
    for column in columns:
        data[column.stored] = to_arrow(stored[column.name][rows], column)
    return pa.table(data)
