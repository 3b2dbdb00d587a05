"""The Parquet dataset classes of pyarrow 14, which newer versions lack, for Petastorm.

They support only what Petastorm uses, with the same results: files in a stable order, partition
keys from folder names (``name=key``), and filters on these keys.
"""

from __future__ import annotations

import functools
import operator
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import fsspec
import numpy as np
import pyarrow as pa
import pyarrow.fs
import pyarrow.parquet as pq
from fsspec.implementations.arrow import ArrowFSWrapper
from fsspec.implementations.local import LocalFileSystem as _LocalFileSystem

_COMPARE: dict[str, Callable[[Any, Any], bool]] = {
    "=": operator.eq,
    "==": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    ">": operator.gt,
    "<=": operator.le,
    ">=": operator.ge,
    "in": lambda key, values: key in values,
    "not in": lambda key, values: key not in values,
}


class LocalFileSystem(_LocalFileSystem):
    """File system of this machine; files are opened with Python's ``open``."""

    def open(self, path: str, mode: str = "rb", **options: Any) -> Any:
        """Open a local file; ``options`` are those of Python's ``open``."""
        return open(path, mode, **options)


@dataclass
class Partition:
    """Partition keys of the folders at one level.

    Attributes:
        name: Name of the partition: the part of the folder names before the ``=``.
        keys: Distinct keys, sorted.
    """

    name: str
    keys: list[str]

    @functools.cached_property
    def dictionary(self) -> pa.Array:
        """The keys as an Arrow array: int64 if all keys are integers, otherwise strings."""
        try:
            return pa.array([int(key) for key in self.keys], pa.int64())
        except ValueError:
            return pa.array(self.keys, pa.string())


class Partitions(list[Partition]):
    """Partition levels, outermost first."""

    @property
    def levels(self) -> list[Partition]:
        """The partition levels, which are this list itself."""
        return self

    @property
    def partition_names(self) -> set[str]:
        """Names of all partition levels."""
        return {partition.name for partition in self}


@dataclass
class ParquetDatasetPiece:
    """Parquet file, or one of its row groups.

    Attributes:
        path: Path of the file.
        open_file_func: Function that opens a path for reading.
        row_group: Index of the row group; None if the piece is the whole file.
        partition_keys: ``(name, index)`` of each partition level, where the file's key is
            ``keys[index]`` of the level's :class:`Partition`.
    """

    path: str
    open_file_func: Callable[[str], Any] = field(default=open, repr=False, compare=False)
    row_group: int | None = None
    partition_keys: list[tuple[str, int]] = field(default_factory=list)

    def get_metadata(self) -> pq.FileMetaData:
        """Return the file's Parquet metadata."""
        with self.open_file_func(self.path) as file:
            return pq.read_metadata(file)

    def read(
        self, columns: Collection[str] | None = None, partitions: Partitions | None = None
    ) -> pa.Table:
        """Return the rows as a table, with an additional column for each partition level.

        Args:
            columns: Names of the file's columns to read. If None, all are read.
            partitions: The dataset's partition levels. If None, no columns are added for them.
        """
        with (
            self.open_file_func(self.path) as source,
            pq.ParquetFile(source, pre_buffer=False) as file,
        ):
            if columns is not None:
                columns = [name for name in file.schema_arrow.names if name in columns]
            # Without threads: one of pyarrow's may drop the last reference to ``source`` while the
            # process ends, which aborts it (https://github.com/apache/arrow/issues/34314).
            if self.row_group is None:
                table = file.read(columns=columns, use_threads=False)
            else:
                table = file.read_row_group(self.row_group, columns=columns, use_threads=False)
        for level, (name, number) in zip(partitions or (), self.partition_keys, strict=False):
            numbers = np.full(len(table), number, "int32")
            table = table.append_column(
                name, pa.DictionaryArray.from_arrays(numbers, level.dictionary)
            )
        return table


class ParquetDataset:
    """Dataset of the Parquet files in a folder, or of given files.

    Args:
        path_or_paths: A folder, a file, or a list of files.
        filesystem: An fsspec or pyarrow file system. Defaults to the local file system.
        validate_schema: Ignored.
        metadata_nthreads: Ignored.
        filters: Conditions ``(name, operator, value)`` on partition keys: a list of conditions
            combined with AND, or a list of such lists combined with OR. Conditions on other
            columns are ignored. If None, all files are used.

    Attributes:
        fs: The file system, as an fsspec file system.
        paths: The path or paths, as passed.
        pieces: The files that pass the filters.
        partitions: The partition levels; None if the dataset consists of given files.
        metadata: Content of the file ``_metadata``; None if it does not exist.
        metadata_path: Path of that file; None if it does not exist.
        common_metadata: Content of the file ``_common_metadata``, or of ``_metadata`` if it is
            missing; None if both are missing.
        common_metadata_path: Path of that file; None if it does not exist.
    """

    def __init__(
        self,
        path_or_paths: str | list[str],
        filesystem: Any = None,
        validate_schema: bool = True,
        metadata_nthreads: int = 1,
        filters: Any = None,
    ) -> None:
        self.fs = _to_fsspec(filesystem)
        self.paths = path_or_paths
        self.pieces: list[ParquetDatasetPiece] = []
        self.partitions: Partitions | None = None
        self.metadata_path: str | None = None
        self.common_metadata_path: str | None = None
        if isinstance(path_or_paths, list) and len(path_or_paths) == 1:
            (path_or_paths,) = path_or_paths
        if isinstance(path_or_paths, str) and self.fs.isdir(path_or_paths):
            self._add_folder(path_or_paths)
        else:
            paths = [path_or_paths] if isinstance(path_or_paths, str) else path_or_paths
            self._add_files(paths)
        if self.common_metadata_path is None:
            self.common_metadata_path = self.metadata_path
        self.metadata = self._read_metadata(self.metadata_path)
        self.common_metadata = self._read_metadata(self.common_metadata_path)
        if filters is not None:
            alternatives = _check_filters(filters)
            self.pieces = [piece for piece in self.pieces if self._accepts(piece, alternatives)]

    def _add_files(self, paths: Sequence[str]) -> None:
        if not paths:
            raise ValueError("Must pass at least one file path")
        for path in paths:
            if not self.fs.isfile(path):
                raise OSError(f"Passed non-file path: {path}")
            self.pieces.append(ParquetDatasetPiece(path, self.fs.open))

    def _add_folder(self, folder: str) -> None:
        self.partitions = partitions = Partitions()
        files = sorted(self._walk(folder, (), partitions))
        for partition in partitions:
            partition.keys = sorted(set(partition.keys))
        numbers = [{key: number for number, key in enumerate(p.keys)} for p in partitions]
        for path, keys in files:
            numbered = [(name, numbers[level][key]) for level, (name, key) in enumerate(keys)]
            self.pieces.append(ParquetDatasetPiece(path, self.fs.open, None, numbered))

    def _walk(
        self, folder: str, keys: tuple[tuple[str, str], ...], partitions: Partitions
    ) -> Iterator[tuple[str, tuple[tuple[str, str], ...]]]:
        """Yield each file's path and partition keys; add the keys to ``partitions``."""
        _, folders, files = next(iter(self.fs.walk(folder)))
        folders = [name for name in folders if name[0] not in "_." or "=" in name]
        data = []
        for name in files:
            if name == "_metadata":
                self.metadata_path = f"{folder}/{name}"
            elif name == "_common_metadata":
                self.common_metadata_path = f"{folder}/{name}"
            elif not _is_hidden(name):
                data.append(f"{folder}/{name}")
        if data and folders:
            raise ValueError(f"Found files in an intermediate directory: {folder}")
        yield from ((path, keys) for path in data)
        for part in folders:
            name, sign, key = part.partition("=")
            if not sign:
                raise ValueError(f"Directory name did not appear to be a partition: {part}")
            if len(keys) == len(partitions):
                if name in partitions.partition_names:
                    raise ValueError(f"{name} was the name of the partition in another level")
                partitions.append(Partition(name, []))
            partitions[len(keys)].keys.append(key)
            yield from self._walk(f"{folder}/{part}", (*keys, (name, key)), partitions)

    def _read_metadata(self, path: str | None) -> pq.FileMetaData | None:
        if path is None:
            return None
        with self.fs.open(path) as file:
            return pq.read_metadata(file)

    def _accepts(self, piece: ParquetDatasetPiece, alternatives: Any) -> bool:
        partitions = self.partitions or ()
        keys = {
            name: level.dictionary[number].as_py()
            for level, (name, number) in zip(partitions, piece.partition_keys, strict=False)
        }
        return any(
            all(_holds(keys[name], sign, value) for name, sign, value in conditions if name in keys)
            for conditions in alternatives
        )


def _is_hidden(name: str) -> bool:
    # An object store may list a folder as a file without a name.
    return not name or name[0] in "_." or name.endswith((".crc", "_$folder$"))


def _to_fsspec(filesystem: Any) -> Any:
    if filesystem is None:
        return LocalFileSystem()
    if isinstance(filesystem, pyarrow.fs.FileSystem):
        return ArrowFSWrapper(filesystem)
    if not isinstance(filesystem, fsspec.AbstractFileSystem):
        raise OSError(f"Unrecognized filesystem: {type(filesystem)}")
    return filesystem


def _check_filters(filters: Any) -> Any:
    """Validate the filters and return them as a list of lists of conditions."""
    if hasattr(filters, "cast"):
        raise TypeError("Expressions as filter not supported for legacy dataset")
    if not filters or any(not part for part in filters):
        raise ValueError("Malformed filters")
    return [filters] if isinstance(filters[0][0], str) else filters


def _holds(key: Any, sign: str, value: Any) -> bool:
    """Return whether ``key <sign> value`` holds, with ``key`` converted to the value's type."""
    kind = type(value)
    if sign in ("in", "not in"):
        if not isinstance(value, Collection):
            raise TypeError(f"{kind.__name__!r} object is not a collection")
        if not value:
            raise ValueError("Cannot use empty collection as filter value")
        kinds = {type(each) for each in value}
        if len(kinds) != 1:
            raise ValueError(f"All elements of the collection {value!r} must be of same type")
        (kind,) = kinds
    elif isinstance(value, Collection) and not isinstance(value, str):
        raise ValueError(f"Op {sign!r} not supported with a collection value")
    if sign not in _COMPARE:
        raise ValueError(f"{sign!r} is not a valid operator in predicates.")
    return _COMPARE[sign](kind(key), value)
