"""Arrays in memory become P training and P validation shards, and a manifest, without Spark.

The result has the same form as that of :mod:`cerebros_spark.data.prepare_spark`.
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from cerebros_spark.core.errors import DataError, StoreError
from cerebros_spark.core.seeding import derive
from cerebros_spark.data import catalog, checks
from cerebros_spark.data.checks import Facts, Request
from cerebros_spark.data.float32 import Variation, worst_variation
from cerebros_spark.data.manifest import Column, Manifest, Shard, ShardFile
from cerebros_spark.data.splits import allocate, are_classes
from cerebros_spark.storage.store import Store

_INTEGERS = {
    "bool": "int32",
    "int8": "int32",
    "uint8": "int32",
    "int16": "int32",
    "uint16": "int32",
    "int32": "int32",
    "uint32": "int64",
    "int64": "int64",
    "uint64": "int64",
}
_CHUNK_BYTES = 2**25
_GREATEST = 2**63 - 1


def prepare_arrays(
    columns: Mapping[str, np.ndarray],
    store: Store,
    *,
    feature_columns: Sequence[str | Sequence[str]],
    label_columns: Sequence[str | Sequence[str]],
    validation: float | str = 0.2,
    partitions: int,
    seed: int = 0,
    weight_column: str | None = None,
    shuffle: bool = True,
    inspect: Callable[[Manifest], None] | None = None,
) -> Manifest:
    """Splits arrays into shuffled shards of equal size, and describes them.

    In the shards fractional numbers are float32, integers int32 or (int64, uint32, uint64) int64,
    booleans int32. The shuffle and the split depend on the rows, their order and the seed. Every
    split and every partition has its share of each class of the labels. The same data with the
    same arguments is found again in the store and not written a second time.

    Args:
        columns: Arrays of shape ``(n,)`` or ``(n, d1, …)`` by column name, all of the same n.
            Higher ranks are stored flat; the manifest keeps their shape.
        store: Where the shards are written; workers must reach it too.
        feature_columns: Names of the features, or lists of names (one list for each model input).
        label_columns: Names of the labels, or lists of names.
        validation: Fraction in (0, 1) of all rows that are kept for validation, or the name of a
            boolean column that is true in validation rows.
        partitions: Number of training shards, and of validation shards.
        seed: Seed of the shuffle.
        weight_column: Column with the rows' sample weights: one number of 0 or more a row, kept
            as float32. None for no weights.
        shuffle: Draw the validation rows at random. If it is False, a fraction takes the last
            rows, as Keras' ``validation_split`` does; training rows are shuffled either way.
        inspect: Called with the manifest, its shards not there yet, before anything is written;
            what it raises ends the preparation.

    Returns:
        The manifest, which is in the store too.

    Raises:
        ArgumentError: If an argument can't be used; nothing is written.
        DataError: If the data can't be trained on; nothing is written.
        StoreError: If the shards can't be written; nothing is left.
    """
    request = checks.check_request(
        list(columns),
        feature_columns,
        label_columns,
        validation,
        partitions,
        seed,
        weight_column,
        shuffle,
    )
    checks.check_address(store)
    mark = _mark(columns, request)
    given = {name: np.ma.asanyarray(columns[name]) for name in request.columns}
    rows = _rows(given if mark is None else {**given, str(request.validation): mark})
    described = _describe(given, request)
    stored = {c.name: _cast(given[c.name], c) for c in described}
    checks.check_facts(
        rows, [_facts(column, given[column.name], stored[column.name]) for column in described]
    )
    labels = {c.name: _label_facts(stored[c.name]) for c in described if c.role == "label"}
    splits = _split(rows, mark, request, _classes_of_rows(stored, labels))
    name = checks.fingerprint(("arrays", _content_hash(stored, mark)), described, request)
    manifest = catalog.find(store, name)
    if manifest is not None:
        checks.inspected(inspect, name, manifest.columns, request.seed)
        return manifest
    train, validating = (np.concatenate(shards) for shards in splits)
    described = tuple(
        _with_statistics(c, stored[c.name], train, labels.get(c.name, {})) for c in described
    )
    weights = [stored[c.name][validating].max() for c in described if c.role == "weight"]
    checks.check_weights(described, float(max(weights, default=1)))
    checks.inspected(inspect, name, described, request.seed)
    with catalog.writing(store, name) as folder:
        shards = (
            _write(store, f"{folder}/train", described, stored, splits[0]),
            _write(store, f"{folder}/validation", described, stored, splits[1]),
        )
        return catalog.finish(store, folder, name, described, shards, request.seed)


def _mark(columns: Mapping[str, np.ndarray], request: Request) -> np.ndarray | None:
    """The array that marks validation rows, if a column does."""
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
        raise checks.not_boolean(request.validation, _kind(mark))
    return mark


def _kind(array: np.ndarray) -> str:
    return f"{array.dtype} of shape {array.shape}"


def _rows(arrays: Mapping[str, np.ndarray]) -> int:
    """The number of rows, the same in all columns."""
    lengths = {name: len(array) if array.ndim else 0 for name, array in arrays.items()}
    first = next(iter(lengths))
    for name, length in lengths.items():
        if length != lengths[first]:
            raise DataError(
                f"the column {name!r} has {length:,} rows, but {first!r} has {lengths[first]:,}"
            )
    return lengths[first]


def _describe(given: Mapping[str, np.ndarray], request: Request) -> tuple[Column, ...]:
    """The columns as they will be stored, without statistics."""
    described = []
    for file_name, (name, array) in zip(
        checks.stored_names(request.columns), given.items(), strict=True
    ):
        dtype = "float32" if array.dtype.kind == "f" else _INTEGERS.get(array.dtype.name)
        if dtype is None or array.ndim == 0:
            raise checks.unusable_type(name, _kind(array))
        if array.dtype.name == "uint64" and array.size and array.max() > _GREATEST:
            raise DataError(
                f"the column {name!r} holds {array.max()}, more than {_GREATEST}, the greatest "
                "integer that can be kept: divide it or cast it to float64 first"
            )
        if request.role(name) == "weight":
            dtype = "float32"
            if array.ndim > 1:
                raise checks.not_one_weight(name, _kind(array))
        stored_as = "" if file_name == name else file_name
        shape = tuple(int(size) for size in array.shape[1:])
        described.append(Column(name, dtype, shape, request.role(name), stored_as=stored_as))
    return tuple(described)


def _cast(array: np.ndarray, column: Column) -> np.ndarray:
    """The values as stored: C order, ``(n,)`` or ``(n, width)``."""
    with np.errstate(over="ignore"):  # what float32 can't hold becomes infinite and is refused
        values = np.ascontiguousarray(np.ma.getdata(array), dtype=column.dtype)
    return values.reshape(len(values), column.width) if column.shape else values


def _facts(column: Column, given: np.ndarray, values: np.ndarray) -> Facts:
    flat = values.reshape(len(values), values.size // max(len(values), 1))
    nans = infinities = 0
    if values.dtype.kind == "f":
        nans = int(np.isnan(flat).any(axis=1).sum())
        infinities = int(np.isinf(flat).any(axis=1).sum())
    masked = np.ma.getmask(given)
    nulls = int(masked.reshape(flat.shape).any(axis=1).sum()) if masked is not np.ma.nomask else 0
    array = values.ndim > 1
    weights = np.ma.getdata(given) if column.role == "weight" and len(values) else np.zeros(1)
    return Facts(
        column.name,
        nulls=0 if array else nulls,
        nans=nans,
        infinities=infinities,
        null_elements=nulls if array else 0,
        lengths=(flat.shape[1],) * 2 if array else None,
        negatives=int((weights < 0).sum()),
        least=float(weights.min()),
        variation=None if nans or infinities or nulls else _variation(column, given),
    )


def _variation(column: Column, given: np.ndarray) -> Variation | None:
    """The variation that float32 can't hold, if there is any."""
    if column.dtype != "float32" or column.role == "weight" or given.dtype == np.float32:
        return None
    values = np.ma.getdata(given)
    if values.size == 0:
        return None
    values = values.reshape(len(values), -1)
    statistics = (values.mean(axis=0), values.min(axis=0), values.max(axis=0))
    return worst_variation(*(each.astype(float).tolist() for each in statistics))


Shards = list[np.ndarray]


def _split(
    rows: int, mark: np.ndarray | None, request: Request, classes: Sequence[np.ndarray]
) -> tuple[Shards, Shards]:
    """Indices of the rows of each training and each validation shard, in random order."""
    held_out = checks.validation_size(rows, float(request.validation)) if mark is None else None
    if held_out is not None and not request.shuffle:
        mark = np.arange(rows) >= rows - held_out
    order = np.random.Generator(np.random.PCG64(derive(request.seed, "prepare"))).permutation(rows)
    place = np.empty_like(order)
    place[order] = np.arange(rows)
    if classes:
        order = order[np.lexsort([values[order] for values in reversed(classes)])]
    if mark is not None:
        validates = mark[order]
    else:
        counts = np.unique(classes[0], return_counts=True)[1].tolist() if classes else [rows]
        validates = np.concatenate(
            [_at_equal_distances(s.rows, s.validation) for s in allocate(counts, held_out or 0)]
        )
    train, validation = order[~validates], order[validates]
    checks.check_split(len(train), len(validation), request)
    return _dealt(train, place, request.partitions), _dealt(validation, place, request.partitions)


def _at_equal_distances(rows: int, marked: int) -> np.ndarray:
    """Booleans of which so many are true, as far from each other as can be."""
    numbers = np.arange(rows)
    found: np.ndarray = (numbers + 1) * marked // rows > numbers * marked // rows
    return found


def _dealt(rows: np.ndarray, place: np.ndarray, partitions: int) -> Shards:
    """Deals rows to shards in turn; each is in the order of the rows' places."""
    hands = [rows[number::partitions] for number in range(partitions)]
    return [hand[np.argsort(place[hand])] for hand in hands]


def _classes_of_rows(
    stored: Mapping[str, np.ndarray], labels: Mapping[str, Mapping[str, Any]]
) -> list[np.ndarray]:
    """For each label that is a class, the class of each row."""
    found = []
    for name, facts in labels.items():
        values = stored[name].reshape(len(stored[name]), -1)
        classes = facts.get("classes")
        if classes is not None and are_classes(len(values), len(classes)):
            found.append(values[:, 0])
        elif facts.get("off_one_hot") == 0 and values.shape[1] > 1:
            found.append(values.argmax(axis=1))
    return found


def _content_hash(stored: Mapping[str, np.ndarray], mark: np.ndarray | None) -> str:
    content = hashlib.blake2b(digest_size=16)
    for values in [*stored.values(), *([] if mark is None else [np.ascontiguousarray(mark)])]:
        content.update(f"{values.dtype}{values.shape}".encode())
        content.update(values.reshape(-1).view(np.uint8).data)
    return content.hexdigest()


def _with_statistics(
    column: Column, values: np.ndarray, train: np.ndarray, label_facts: Mapping[str, Any]
) -> Column:
    mean, variance = _moments(values, train)
    return dataclasses.replace(
        column,
        mean=tuple(mean.tolist()),
        variance=tuple(variance.tolist()),
        **label_facts,
    )


def _moments(values: np.ndarray, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and population variance of each element, in float64, in two passes of small steps."""
    first = values[:1].reshape(1, -1)
    # Beyond 2^53 float64 lacks integers: their distances from the first are exact.
    origin = first if values.dtype.kind == "i" and np.abs(first).max() > 2**52 else 0

    def steps() -> Iterator[np.ndarray]:
        many = max(1, _CHUNK_BYTES // (8 * (values.size // len(values))))
        for start in range(0, len(rows), many):
            part = values[rows[start : start + many]]
            yield (part.reshape(len(part), -1) - origin).astype(np.float64)

    mean = sum(step.sum(axis=0) for step in steps()) / len(rows)
    variance = sum(np.square(step - mean).sum(axis=0) for step in steps()) / len(rows)
    return np.asarray(mean + np.float64(origin)).reshape(-1), np.asarray(variance)


def _label_facts(values: np.ndarray) -> dict[str, Any]:
    rows = values.reshape(len(values), -1)
    facts: dict[str, Any] = {}
    if values.ndim > 1:
        off_binary = ((rows != 0) & (rows != 1)).any(axis=1)
        facts["off_binary"] = int(off_binary.sum())
        facts["off_one_hot"] = int((off_binary | (rows.sum(axis=1) != 1)).sum())
    if rows.shape[1] == 1 and np.array_equal(rows, np.floor(rows)):
        found = np.unique(rows)
        if len(found) <= checks.CLASS_LIMIT:
            facts["classes"] = tuple(int(value) for value in found)
    return facts


def _write(
    store: Store,
    key: str,
    columns: Sequence[Column],
    stored: Mapping[str, np.ndarray],
    indices: Shards,
) -> tuple[Shard, ...]:
    """Writes the rows at the given indices as shards."""
    shards = []
    many, group = checks.rows_per_file(columns), checks.rows_per_group(columns)
    for number, own in enumerate(indices):
        rows = len(own)
        folder = f"{key}/shard={number}"
        files = []
        for file, start in enumerate(range(0, rows, many)):
            table = _table(columns, stored, own[start : start + many])
            sink = pa.BufferOutputStream()
            pq.write_table(table, sink, row_group_size=group, compression="snappy")
            data = sink.getvalue().to_pybytes()
            written = pq.read_metadata(pa.BufferReader(data)).num_rows
            if written != table.num_rows:
                raise StoreError(f"{folder!r} has {written} of {table.num_rows} rows")
            name = f"part-{file:05d}.snappy.parquet"
            store.write(f"{folder}/{name}", data)
            files.append(ShardFile(name, len(data), hashlib.sha256(data).hexdigest()))
        shards.append(Shard(folder, rows, tuple(files)))
    return tuple(shards)


def _table(
    columns: Sequence[Column], stored: Mapping[str, np.ndarray], rows: np.ndarray
) -> pa.Table:
    data = {}
    for column in columns:
        values = stored[column.name][rows]
        if column.shape:
            ends = np.arange(len(rows) + 1, dtype=np.int32) * column.width
            data[column.stored] = pa.ListArray.from_arrays(ends, pa.array(values.reshape(-1)))
        else:
            data[column.stored] = pa.array(values)
    return pa.table(data)
