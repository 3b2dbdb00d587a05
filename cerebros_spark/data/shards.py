"""Reading of a shard's rows on a worker, in chunks of NumPy arrays.

A shard that fits the memory budget is decoded once and kept in memory. A larger shard is read from
its files in every pass.
"""

from __future__ import annotations

import dataclasses
import math
import shutil
import tempfile
import weakref
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from cerebros_spark.core.errors import ArgumentError, StoreError
from cerebros_spark.core.validation import check_integer
from cerebros_spark.data import catalog
from cerebros_spark.data.layout import input_dtype
from cerebros_spark.data.manifest import Column, Layout, Manifest, Shard
from cerebros_spark.data.readers import Reader, open_reader
from cerebros_spark.data.table.encode_matrix import fill_matrix
from cerebros_spark.data.table.schema import TableSchema
from cerebros_spark.storage.local import LocalStore
from cerebros_spark.storage.store import Store

# Memory for decoding a row group, in Arrow and as arrays, in multiples of its size.
_GROUPS_DECODED = 4


@dataclass(frozen=True, eq=False)
class Chunk:
    """Rows in memory, and the order in which to visit them.

    Attributes:
        x: One array for each model input, of shape ``(rows, *input_shape)``.
        y: One array for each model output, of shape ``(rows, width)``.
        order: Row indices in the order to visit, int64: for each pass, a permutation of
            ``0 … rows - 1``; the passes are concatenated.
        weights: Sample weights of shape ``(rows,)``; None if there are no sample weights.
    """

    x: list[np.ndarray]
    y: list[np.ndarray]
    order: np.ndarray
    weights: np.ndarray | None = None


def open_shard(
    store: Store,
    shard: Shard,
    manifest: Manifest,
    layout: Layout,
    memory_budget: int,
    reader: str | None = None,
) -> ShardData:
    """Verify the files of a shard and open it for a model.

    If the decoded rows fit the budget, they are read immediately and kept in memory. Otherwise each
    pass reads them in chunks. The budget then covers two chunks (the caller's and the next) and the
    row group being decoded. If this leaves too little, a chunk gets an eighth of the budget, but at
    least one batch.

    Args:
        store: Store of the shard.
        shard: The shard.
        manifest: Description of the prepared data.
        layout: Columns of the inputs and outputs. An input or output of one integer column has
            the dtype of that column; all others are float32.
        memory_budget: Bytes of memory for decoded rows.
        reader: Name of the reader; see :func:`.readers.choose_reader`.

    Returns:
        The rows of the shard.

    Raises:
        ArgumentError: If the layout does not match the manifest, or the reader is unknown or cannot
            be imported.
        DataError: If the number of rows in the shard differs from the manifest.
        StoreError: If the shard cannot be read, or a file was altered.
    """
    inputs = tuple(
        _make_tensor(manifest, names, shape)
        for names, shape in zip(layout.inputs, layout.input_shapes, strict=True)
    )
    outputs = tuple(_make_tensor(manifest, names, None) for names in layout.outputs)
    weights: tuple[_Tensor, ...] = ()
    if manifest.weight is not None:
        weights = (_make_tensor(manifest, (manifest.weight.name,), ()),)
    source = store if store.reads_in_place else _LocalCopy(store, shard)
    catalog.check_files(store, shard, source)
    shard_reader = _ShardReader(open_reader(reader), source, shard, inputs, outputs, weights)
    return ShardData(shard_reader, memory_budget)


class ShardData:
    """Rows of one shard, which can be read any number of times; see :func:`open_shard`.

    Attributes:
        rows: Number of rows.
        resident: Whether the decoded rows are kept in memory.
    """

    def __init__(self, reader: _ShardReader, memory_budget: int) -> None:
        self.rows = reader.shard.rows
        self.resident = reader.row_bytes * self.rows <= memory_budget
        if self.resident:  # the reader is released, and with it any copy on disk
            self._chunk = reader.make_chunk(next(reader.read(self.rows, None)), None)
            return
        self._reader = reader
        # This also opens the shard, so that errors occur now and not in the middle of an epoch.
        group_rows = reader.largest_row_group()
        decoding = _GROUPS_DECODED * group_rows * reader.row_bytes
        left = max(memory_budget - decoding, memory_budget // 4)
        self._chunk_rows = max(1, left // 2 // reader.row_bytes)

    def chunks(self, batch_size: int, seed: int | None, passes: int = 1) -> Iterator[Chunk]:
        """Yield all rows once in each pass, in chunks of whole batches.

        Only the last chunk of a pass may end with a smaller batch. A resident shard yields one
        chunk, with the same array objects in each call.

        Args:
            batch_size: Rows per batch.
            seed: Seed that alone determines the order of the rows. If None, rows are in stored
                order.
            passes: Number of passes, each in a different random order if ``seed`` is given. The
                single chunk of a resident shard has the orders of all passes, concatenated.

        Raises:
            ArgumentError: If ``batch_size`` is not a positive integer.
            StoreError: If the shard cannot be read.
        """
        check_integer("batch_size", batch_size, 1)
        generator = None if seed is None else np.random.Generator(np.random.PCG64(seed))
        if self.resident:
            orders = [_make_order(self.rows, generator) for _ in range(passes)]
            yield dataclasses.replace(self._chunk, order=np.concatenate(orders))
            return
        rows = max(1, self._chunk_rows // batch_size) * batch_size
        # Petastorm treats seed 0 as no seed.
        for _ in range(passes):
            group_seed = None if generator is None else int(generator.integers(1, 2**32))
            for arrays in self._reader.read(rows, group_seed):
                chunks = [self._reader.make_chunk(arrays, generator)]
                del arrays
                yield chunks.pop()  # no reference is kept here while the caller uses it


class _LocalCopy(LocalStore):
    """Copy of a shard on the worker's disk, deleted when this object is garbage-collected.

    Readers read files in many small pieces, and every pass reads a streamed shard. A copy on disk
    makes this fast, and the store is read only once.
    """

    def __init__(self, store: Store, shard: Shard) -> None:
        folder = tempfile.mkdtemp(prefix="cerebros-shard-")
        weakref.finalize(self, shutil.rmtree, folder, ignore_errors=True)
        super().__init__(folder)
        for name in catalog.file_names(store, shard.key):
            target = Path(folder, shard.key, name)
            try:
                target.parent.mkdir(parents=True, exist_ok=True)
                store.fetch(f"{shard.key}/{name}", target)
            except OSError as error:
                raise StoreError(
                    f"cannot copy the shard {shard.key!r} to {folder}: {error}; if the disk is "
                    "full, set TMPDIR on the workers to a larger one"
                ) from error


@dataclass(frozen=True)
class _Tensor:
    """A model input, a model output or the sample weights, formed by concatenating columns."""

    columns: tuple[Column, ...]
    shape: tuple[int, ...]
    dtype: np.dtype
    table: TableSchema | None = None  # encoding of the columns, if they are those of a raw table

    @property
    def row_bytes(self) -> int:
        return math.prod(self.shape) * self.dtype.itemsize

    def empty(self, rows: int) -> np.ndarray:
        return np.empty((rows, *self.shape), self.dtype)

    def fill(self, target: np.ndarray, batch: Mapping[str, np.ndarray]) -> None:
        """Fill ``target``, a slice of this tensor's array, with the rows of a batch."""
        flat = target.reshape(len(target), -1)
        if self.table is not None:
            fields = {column.name: batch[column.stored] for column in self.columns}
            fill_matrix(flat, self.table.columns, self.table.matrix, fields)
            return
        start = 0
        for column in self.columns:
            end = start + column.width
            flat[:, start:end] = batch[column.stored].reshape(len(target), column.width)
            start = end


def _make_tensor(
    manifest: Manifest, names: Sequence[str], shape: tuple[int, ...] | None
) -> _Tensor:
    try:
        columns = tuple(manifest.column(name) for name in names)
    except KeyError as error:
        raise ArgumentError(
            f"the layout has a column {error}, but the data has only "
            f"{', '.join(column.name for column in manifest.columns)}"
        ) from None
    width = sum(column.width for column in columns)
    table = None
    if manifest.table is not None and columns[0].role == "feature":
        table = manifest.table.select(names)
        width = table.matrix.width
    if shape is not None and math.prod(shape) != width:
        raise ArgumentError(
            f"the input shape {shape} has {math.prod(shape)} elements, but the columns "
            f"{', '.join(names)} have {width} per row"
        )
    dtype = np.dtype(input_dtype(manifest, names))
    return _Tensor(columns, (width,) if shape is None else shape, dtype, table)


@dataclass(frozen=True)
class _ShardReader:
    """Reader that decodes a shard into a model's input, output and weight arrays."""

    reader: Reader
    store: Store
    shard: Shard
    inputs: tuple[_Tensor, ...]
    outputs: tuple[_Tensor, ...]
    weights: tuple[_Tensor, ...]

    @property
    def tensors(self) -> tuple[_Tensor, ...]:
        return self.inputs + self.outputs + self.weights

    @property
    def row_bytes(self) -> int:
        return sum(tensor.row_bytes for tensor in self.tensors)

    @property
    def names(self) -> list[str]:
        return sorted({column.stored for t in self.tensors for column in t.columns})

    def largest_row_group(self) -> int:
        return self.reader.largest_row_group(self.store, self.shard, self.names)

    def read(self, chunk_rows: int, seed: int | None) -> Iterator[list[np.ndarray]]:
        """Yield lists of new arrays, one per tensor, of at most ``chunk_rows`` rows.

        Only the last arrays may have fewer rows. If ``seed`` is None, row groups are read in file
        order; otherwise the seed determines their order.
        """
        left = self.shard.rows
        arrays: list[np.ndarray] = []
        filled = 0
        for batch in self.reader.read_row_groups(self.store, self.shard, self.names, seed):
            rows, start = len(next(iter(batch.values()))), 0
            while start < rows:
                if not arrays:
                    arrays = [tensor.empty(min(chunk_rows, left)) for tensor in self.tensors]
                count = min(rows - start, len(arrays[0]) - filled)
                part = {name: values[start : start + count] for name, values in batch.items()}
                for tensor, array in zip(self.tensors, arrays, strict=True):
                    tensor.fill(array[filled : filled + count], part)
                start, filled, left = start + count, filled + count, left - count
                if filled == len(arrays[0]):
                    # No reference is kept here to arrays that the caller has released.
                    full, arrays, filled = [arrays], [], 0
                    yield full.pop()

    def make_chunk(self, arrays: list[np.ndarray], generator: np.random.Generator | None) -> Chunk:
        count = len(self.inputs)
        end = count + len(self.outputs)
        weights = arrays[end] if self.weights else None
        return Chunk(
            arrays[:count], arrays[count:end], _make_order(len(arrays[0]), generator), weights
        )


def _make_order(rows: int, generator: np.random.Generator | None) -> np.ndarray:
    order = np.arange(rows, dtype=np.int64)
    return order if generator is None else generator.permutation(order)
