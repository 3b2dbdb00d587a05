"""One shard becomes chunks of rows, on a worker, through Petastorm.

A shard that fits the memory budget is decoded once and kept; a greater one is streamed.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from cerebros_spark.core.errors import ArgumentError
from cerebros_spark.data import catalog
from cerebros_spark.data.copies import LocalCopy
from cerebros_spark.data.layout import input_dtype
from cerebros_spark.data.manifest import Column, Layout, Manifest, Shard
from cerebros_spark.data.reader_petastorm import largest_group, row_groups
from cerebros_spark.storage.store import Store

# Memory of a row group while it is decoded, in its own sizes: as Arrow has it, and as arrays.
_GROUPS_DECODED = 4


@dataclass(frozen=True, eq=False)
class Chunk:
    """Rows in memory, and the order to visit them in.

    Attributes:
        x: One array for each model input, of shape ``(rows, *input_shape)``.
        y: One array for each model output, of shape ``(rows, width)``.
        order: Row numbers, int64: a permutation of ``0 … rows - 1``.
        weights: The rows' sample weights, of shape ``(rows,)``; None where there are none.
    """

    x: list[np.ndarray]
    y: list[np.ndarray]
    order: np.ndarray
    weights: np.ndarray | None = None


class ShardData(Protocol):
    """The rows of one shard, to be gone through any number of times.

    Attributes:
        rows: Number of rows.
        resident: Whether the decoded rows are kept in memory.
    """

    rows: int
    resident: bool

    def chunks(self, batch_size: int, seed: int | None) -> Iterator[Chunk]:
        """Every row exactly once, in chunks of which only the last is no multiple of a batch.

        A resident shard is one chunk, whose arrays are the same objects each time.

        Args:
            batch_size: Rows in a batch.
            seed: Seed of the order, which depends on nothing else; None for the natural order.

        Raises:
            ArgumentError: If ``batch_size`` is less than 1.
            StoreError: If the shard can't be read.
        """


def open_shard(
    store: Store, shard: Shard, manifest: Manifest, layout: Layout, memory_budget: int
) -> ShardData:
    """Opens a shard for a model, once its files are known to be those that were written.

    Where the decoded rows fit the budget, they are read here and kept. Otherwise they are read
    anew in each pass, in chunks. The budget holds two, the one that is read and what the caller
    makes of it or of the one before, and the row group that is being decoded; if it is too small
    for that, a chunk has an eighth of it, and one batch at least.

    Args:
        store: Where the shard is.
        shard: The shard.
        manifest: The data it belongs to.
        layout: Which columns make up the inputs and outputs. An input or output of one integer
            column has that column's type; all others are float32.
        memory_budget: Bytes that decoded rows may take.

    Returns:
        The shard's rows.

    Raises:
        ArgumentError: If the layout does not fit the manifest.
        DataError: If the shard has another number of rows than the manifest says.
        StoreError: If the shard can't be read, or a file of it was altered.
    """
    inputs = tuple(
        _tensor(manifest, names, shape)
        for names, shape in zip(layout.inputs, layout.input_shapes, strict=True)
    )
    outputs = tuple(_tensor(manifest, names, None) for names in layout.outputs)
    place = store if store.reads_in_place else LocalCopy(store, shard)
    catalog.check_files(store, shard, place)
    weights = () if manifest.weight is None else (_tensor(manifest, (manifest.weight.name,), ()),)
    source = _Source(place, shard, inputs, outputs, weights)
    if source.row_bytes * shard.rows <= memory_budget:
        return _Resident(source)
    return _Streamed(source, memory_budget)


@dataclass(frozen=True)
class _Tensor:
    """One model input or output: columns side by side."""

    columns: tuple[Column, ...]
    shape: tuple[int, ...]
    dtype: np.dtype

    @property
    def row_bytes(self) -> int:
        return math.prod(self.shape) * self.dtype.itemsize

    def empty(self, rows: int) -> np.ndarray:
        return np.empty((rows, *self.shape), self.dtype)

    def fill(self, target: np.ndarray, batch: Mapping[str, np.ndarray]) -> None:
        """Puts the rows of a batch into a part of an array."""
        flat = target.reshape(len(target), -1)
        at = 0
        for column in self.columns:
            end = at + column.width
            flat[:, at:end] = batch[column.stored].reshape(len(target), column.width)
            at = end


def _tensor(manifest: Manifest, names: Sequence[str], shape: tuple[int, ...] | None) -> _Tensor:
    try:
        columns = tuple(manifest.column(name) for name in names)
    except KeyError as error:
        raise ArgumentError(
            f"the layout has a column {error}, but the data has only "
            f"{', '.join(column.name for column in manifest.columns)}"
        ) from None
    width = sum(column.width for column in columns)
    if shape is not None and math.prod(shape) != width:
        raise ArgumentError(
            f"the input shape {shape} has {math.prod(shape)} elements, but the columns "
            f"{', '.join(names)} have {width} in a row"
        )
    dtype = np.dtype(input_dtype(manifest, names))
    return _Tensor(columns, (width,) if shape is None else shape, dtype)


@dataclass(frozen=True)
class _Source:
    """A shard in the store and what is made of it."""

    store: Store
    shard: Shard
    inputs: tuple[_Tensor, ...]
    outputs: tuple[_Tensor, ...]
    weights: tuple[_Tensor, ...] = ()

    @property
    def tensors(self) -> tuple[_Tensor, ...]:
        return self.inputs + self.outputs + self.weights

    @property
    def row_bytes(self) -> int:
        return sum(tensor.row_bytes for tensor in self.tensors)

    @property
    def names(self) -> list[str]:
        return sorted({column.stored for t in self.tensors for column in t.columns})

    def chunks(self, many: int, seed: int | None) -> Iterator[list[np.ndarray]]:
        """The rows in new arrays of ``many`` rows each; the last may have fewer."""
        left = self.shard.rows
        arrays: list[np.ndarray] = []
        filled = 0
        for batch in row_groups(self.store, self.shard, self.names, seed):
            rows, at = len(next(iter(batch.values()))), 0
            while at < rows:
                if not arrays:
                    arrays = [tensor.empty(min(many, left)) for tensor in self.tensors]
                count = min(rows - at, len(arrays[0]) - filled)
                self._fill(arrays, filled, batch, at, count)
                at, filled, left = at + count, filled + count, left - count
                if filled == len(arrays[0]):
                    # Nothing here holds on to what the caller lets go.
                    done, arrays, filled = [arrays], [], 0
                    yield done.pop()

    def _fill(
        self,
        arrays: list[np.ndarray],
        start: int,
        batch: Mapping[str, np.ndarray],
        at: int,
        count: int,
    ) -> None:
        rows = {name: values[at : at + count] for name, values in batch.items()}
        for tensor, array in zip(self.tensors, arrays, strict=True):
            tensor.fill(array[start : start + count], rows)

    def chunk(self, arrays: list[np.ndarray], generator: np.random.Generator | None) -> Chunk:
        """Arrays, as x and y, with an order."""
        count = len(self.inputs)
        end = count + len(self.outputs)
        order = _order(len(arrays[0]), generator)
        return Chunk(
            arrays[:count], arrays[count:end], order, arrays[end] if self.weights else None
        )


class _Resident:
    """A shard that is kept decoded."""

    resident = True

    def __init__(self, source: _Source) -> None:
        self.rows = source.shard.rows
        arrays = next(source.chunks(self.rows, None))
        self._chunk = source.chunk(arrays, None)

    def chunks(self, batch_size: int, seed: int | None) -> Iterator[Chunk]:
        _check_batch_size(batch_size)
        order = _order(self.rows, _generator(seed))
        yield Chunk(self._chunk.x, self._chunk.y, order, self._chunk.weights)


class _Streamed:
    """A shard that is read anew in each pass."""

    resident = False

    def __init__(self, source: _Source, memory_budget: int) -> None:
        self.rows = source.shard.rows
        self._source = source
        # Opening it tells now, not in the middle of an epoch, if the shard is not whole.
        group = largest_group(source.store, source.shard, source.names) * source.row_bytes
        left = max(memory_budget - _GROUPS_DECODED * group, memory_budget // 4)
        self._rows_at_once = max(1, left // 2 // source.row_bytes)

    def chunks(self, batch_size: int, seed: int | None) -> Iterator[Chunk]:
        _check_batch_size(batch_size)
        many = max(1, self._rows_at_once // batch_size) * batch_size
        generator = _generator(seed)
        # Petastorm takes seed 0 for none.
        groups = None if generator is None else int(generator.integers(1, 2**32))
        for arrays in self._source.chunks(many, groups):
            chunks = [self._source.chunk(arrays, generator)]
            del arrays
            yield chunks.pop()  # held by nobody here while the caller works on it


def _check_batch_size(batch_size: int) -> None:
    if batch_size < 1:
        raise ArgumentError(f"batch_size must be 1 or more, but got {batch_size!r}")


def _generator(seed: int | None) -> np.random.Generator | None:
    return None if seed is None else np.random.Generator(np.random.PCG64(seed))


def _order(rows: int, generator: np.random.Generator | None) -> np.ndarray:
    order = np.arange(rows, dtype=np.int64)
    return order if generator is None else generator.permutation(order)
