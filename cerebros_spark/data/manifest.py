"""What prepared data is: a frozen description that travels to every worker.

The manifest is written after the last shard, so data without one is unfinished and never used.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
from dataclasses import dataclass
from typing import Any

import numpy as np

FORMAT = 2

#: Of data with sample weights, which readers of the other format would leave out unsaid.
_FORMAT_WITH_WEIGHTS = 3


class OtherFormatError(ValueError):
    """A manifest was written by another version, in another format."""


@dataclass(frozen=True)
class Column:
    """One column of prepared data.

    Attributes:
        name: The column's name in the user's DataFrame.
        dtype: NumPy name of the element type in the shards (``float32``, ``int64`` …).
        shape: Shape of one row's value: ``()`` for a number, ``(n,)`` for an array.
        role: ``"feature"``, ``"label"`` or ``"weight"`` (the rows' sample weights).
        mean: Mean of each element over the training rows, flattened.
        variance: Population variance of each element over the training rows.
        classes: For an integer (or integral) label of at most 1,000 different values: those
            values, ascending, over all rows. None where the column is no class label.
        off_binary: For an array label: rows that hold a value other than 0 and 1.
        off_one_hot: For an array label: rows that are not one 1 among zeros.
        stored_as: The column's name in the shards' files where it can't be ``name``, because the
            reader takes only ASCII identifiers; empty where it is ``name``.
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
        """The column's name in the shards' files."""
        return self.stored_as or self.name

    @property
    def width(self) -> int:
        """Number of elements in one row's value."""
        return math.prod(self.shape)

    @property
    def row_bytes(self) -> int:
        """Decoded size of one row's value, in bytes."""
        return self.width * np.dtype(self.dtype).itemsize


@dataclass(frozen=True)
class ShardFile:
    """One file of a shard, as it was written.

    Attributes:
        name: Its key below the shard's.
        size: Its size in bytes.
        sha256: The sha256 of its bytes, in hexadecimal digits.
    """

    name: str
    size: int
    sha256: str


@dataclass(frozen=True)
class Shard:
    """One shard.

    Attributes:
        key: The key of its folder below the store's prefix.
        rows: How many rows it holds.
        files: Its files, by name; none where they are not known, and can't be checked.
    """

    key: str
    rows: int
    files: tuple[ShardFile, ...] = ()


@dataclass(frozen=True)
class Manifest:
    """Prepared data: P training and P validation shards of equal size (within one row).

    Attributes:
        fingerprint: Names the content: same rows, columns, split, P and seed, same fingerprint.
        columns: Features first, in the order they were asked for, then labels, then the sample
            weights, if there are any.
        train: The training shards; partition p of the run is ``train[p]``.
        validation: The validation shards, as many as ``train``.
        seed: Seed of the shuffle.
    """

    fingerprint: str
    columns: tuple[Column, ...]
    train: tuple[Shard, ...]
    validation: tuple[Shard, ...]
    seed: int

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
        """The column with the rows' sample weights, if the data has them."""
        return next((column for column in self.columns if column.role == "weight"), None)

    def column(self, name: str) -> Column:
        """The column of that name; raises KeyError."""
        for column in self.columns:
            if column.name == name:
                return column
        raise KeyError(name)

    def to_json(self) -> str:
        """The manifest as JSON text, with a digest of what it says."""
        written = FORMAT if self.weight is None else _FORMAT_WITH_WEIGHTS
        content = {"format": written, **dataclasses.asdict(self)}
        return json.dumps({"sha256": _digest(content), **content}, indent=1)

    @classmethod
    def from_json(cls, text: str) -> Manifest:
        """Reads what :meth:`to_json` wrote.

        Raises:
            OtherFormatError: If it was written in another format.
            ValueError: If it is not what was written: cut short, altered, or something else.
        """
        try:
            value: dict[str, Any] = json.loads(text)
            written = value.pop("format")
            if written not in (FORMAT, _FORMAT_WITH_WEIGHTS):
                raise OtherFormatError(f"it has the format {written}, not {FORMAT}")
            digest = value.pop("sha256")
            if digest != _digest({"format": written, **value}):
                raise ValueError("its content does not fit its sha256: it was altered")
            return _manifest(value)
        except (AttributeError, KeyError, TypeError) as error:
            raise ValueError(f"it is no manifest ({type(error).__name__}: {error})") from error


def _digest(content: dict[str, Any]) -> str:
    """The sha256 of what JSON says, however it is laid out."""
    text = json.dumps(content, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def _manifest(value: dict[str, Any]) -> Manifest:
    columns = tuple(
        Column(
            name=c["name"],
            dtype=c["dtype"],
            shape=tuple(c["shape"]),
            role=c["role"],
            mean=tuple(c["mean"]),
            variance=tuple(c["variance"]),
            classes=None if c["classes"] is None else tuple(c["classes"]),
            off_binary=c["off_binary"],
            off_one_hot=c["off_one_hot"],
            stored_as=c["stored_as"],
        )
        for c in value["columns"]
    )
    return Manifest(
        fingerprint=value["fingerprint"],
        columns=columns,
        train=tuple(_shard(shard) for shard in value["train"]),
        validation=tuple(_shard(shard) for shard in value["validation"]),
        seed=value["seed"],
    )


def _shard(value: dict[str, Any]) -> Shard:
    files = tuple(ShardFile(f["name"], f["size"], f["sha256"]) for f in value["files"])
    return Shard(value["key"], value["rows"], files)


@dataclass(frozen=True)
class Layout:
    """Which columns make up each input and output of the models.

    Attributes:
        inputs: For each model input the columns that are put side by side in it.
        outputs: For each model output the label columns that are put side by side in it.
        input_shapes: Shape of one row of each input; a flat column is reshaped to it.
    """

    inputs: tuple[tuple[str, ...], ...]
    outputs: tuple[tuple[str, ...], ...]
    input_shapes: tuple[tuple[int, ...], ...]

    @property
    def columns(self) -> tuple[str, ...]:
        """All columns that are read, features first."""
        return tuple(name for group in (*self.inputs, *self.outputs) for name in group)


def manifest_key(fingerprint: str) -> str:
    """Where the manifest of prepared data lies in the store."""
    return f"data/{fingerprint}/manifest.json"
