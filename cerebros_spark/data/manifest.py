"""Manifest of prepared data: a frozen description that is sent to every worker.

The manifest is written after the last shard. Data without a manifest is unfinished and never used.
"""

from __future__ import annotations

import hashlib
import json
import math
from dataclasses import dataclass
from typing import Any

import msgspec
import numpy as np

from cerebros_spark.data.table.schema import TableSchema

FORMAT = 2

#: Format of data with sample weights, which readers of the other format would silently ignore.
_FORMAT_WITH_WEIGHTS = 3

#: Format of data whose features are the fields of a raw table.
_FORMAT_WITH_TABLE = 4


class OtherFormatError(ValueError):
    """Error for a manifest in an unsupported format."""


class Column(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Column of prepared data.

    Attributes:
        name: Name of the column in the user's DataFrame.
        dtype: NumPy name of the element type in the shards (``float32``, ``int64`` …).
        shape: Shape of the value of one row: ``()`` for a number, ``(n,)`` for an array.
        role: ``"feature"``, ``"label"`` or ``"weight"`` (sample weights).
        mean: Mean of each element over the training rows, flattened; empty for the features of a
            raw table.
        variance: Population variance of each element over the training rows, flattened; empty for
            the features of a raw table.
        classes: Distinct values over all rows, ascending, of a class label: a label with integral
            values, at most 1,000 of them distinct. None if the column is not a class label.
        off_binary: For a label of arrays, number of rows with an element other than 0 and 1.
        off_one_hot: For a label of arrays, number of rows that are not one-hot.
        stored_as: Name of the column in the shard files if it differs from ``name``, because the
            reader accepts only ASCII identifiers; otherwise empty.
    """

    name: str
    dtype: str
    shape: tuple[int, ...]
    role: str
    mean: tuple[float, ...] = ()
    variance: tuple[float, ...] = ()
    classes: tuple[int, ...] | None = None
    off_binary: int = 0
    off_one_hot: int = 0
    stored_as: str = ""

    @property
    def stored(self) -> str:
        """Name of the column in the shard files."""
        return self.stored_as or self.name

    @property
    def width(self) -> int:
        """Number of elements in the value of one row."""
        return math.prod(self.shape)

    @property
    def row_bytes(self) -> int:
        """Decoded size of the value of one row, in bytes."""
        return self.width * np.dtype(self.dtype).itemsize


class ShardFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """File of a shard, as it was written.

    Attributes:
        name: Key of the file, relative to the key of the shard.
        size: Size of the file in bytes.
        sha256: Hexadecimal SHA-256 digest of the file.
    """

    name: str
    size: int
    sha256: str


class Shard(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Training or validation rows of one partition, stored as files in one folder.

    Attributes:
        key: Key of the shard's folder in the store.
        rows: Number of rows.
        files: Files of the shard, ordered by name; empty if they are unknown and cannot be
            verified.
    """

    key: str
    rows: int
    files: tuple[ShardFile, ...] = ()


class Manifest(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """Description of prepared data: P training and P validation shards.

    The sizes of the training shards differ by at most one row, as do those of the validation
    shards.

    Attributes:
        fingerprint: Hash of the rows, columns, split, P and seed, which identifies the content.
        columns: The features in the requested order, then the labels, then the sample weights, if
            there are any.
        train: Training shards; partition p of the run is ``train[p]``.
        validation: Validation shards, as many as ``train``.
        seed: Seed of the shuffle.
        table: Encoding of the raw table whose fields (encoded columns) are the features; None if
            the user's features were numeric and are stored without encoding.
    """

    fingerprint: str
    columns: tuple[Column, ...]
    train: tuple[Shard, ...]
    validation: tuple[Shard, ...]
    seed: int
    table: TableSchema | None = None

    @property
    def partitions(self) -> int:
        """Number of partitions, P."""
        return len(self.train)

    @property
    def train_rows(self) -> int:
        """Number of training rows in all shards."""
        return sum(shard.rows for shard in self.train)

    @property
    def validation_rows(self) -> int:
        """Number of validation rows in all shards."""
        return sum(shard.rows for shard in self.validation)

    @property
    def weight(self) -> Column | None:
        """The column with the sample weights; None if the data has no sample weights."""
        return next((column for column in self.columns if column.role == "weight"), None)

    def column(self, name: str) -> Column:
        """Return the column named ``name``; raise KeyError if there is no such column."""
        for column in self.columns:
            if column.name == name:
                return column
        raise KeyError(name)

    def to_json(self) -> str:
        """Return the manifest as JSON, with a digest of its content."""
        number = FORMAT if self.weight is None else _FORMAT_WITH_WEIGHTS
        number = number if self.table is None else _FORMAT_WITH_TABLE
        content = {"format": number, **msgspec.to_builtins(self)}
        return json.dumps({"sha256": _digest(content), **content}, indent=1)

    @classmethod
    def from_json(cls, text: str) -> Manifest:
        """Parse a manifest written by :meth:`to_json`.

        Raises:
            OtherFormatError: If the manifest has an unsupported format.
            ValueError: If the text was altered or truncated, or is not a manifest.
        """
        # The parser of msgspec does not support the infinite numbers that statistics may contain.
        fields = json.loads(text)
        try:
            number = fields.pop("format")
            if number not in (FORMAT, _FORMAT_WITH_WEIGHTS, _FORMAT_WITH_TABLE):
                raise OtherFormatError(f"it has the format {number}, not {FORMAT}")
            digest = fields.pop("sha256")
            manifest = msgspec.convert(fields, cls)
        except (AttributeError, KeyError, TypeError, msgspec.ValidationError) as error:
            raise ValueError(f"it is not a manifest ({type(error).__name__}: {error})") from error
        # The digest is of the parsed manifest, so that a field left to its default is detected.
        if digest != _digest({"format": number, **msgspec.to_builtins(manifest)}):
            raise ValueError("its content does not match its sha256: it was altered")
        return manifest


def _digest(content: dict[str, Any]) -> str:
    """Return the hexadecimal SHA-256 digest of a JSON value, independent of whitespace."""
    text = json.dumps(content, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


@dataclass(frozen=True)
class Layout:
    """Columns that form each input and output of the models.

    Attributes:
        inputs: Names of the columns to concatenate for each model input.
        outputs: Names of the label columns to concatenate for each model output.
        input_shapes: Shape of one row of each input; concatenated columns are reshaped to it.
    """

    inputs: tuple[tuple[str, ...], ...]
    outputs: tuple[tuple[str, ...], ...]
    input_shapes: tuple[tuple[int, ...], ...]

    @property
    def columns(self) -> tuple[str, ...]:
        """Names of all columns to read, features first."""
        return tuple(name for group in (*self.inputs, *self.outputs) for name in group)


def manifest_key(fingerprint: str) -> str:
    """Return the manifest's key in the store, given the fingerprint of the prepared data."""
    return f"data/{fingerprint}/manifest.json"
