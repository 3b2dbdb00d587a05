"""What prepared data is: a frozen description that is sent to every worker.

The manifest is written after the last shard, so data without one is unfinished and never used.
"""

from __future__ import annotations

import hashlib
import json
import math
from dataclasses import dataclass
from typing import Any

import msgspec
import numpy as np

FORMAT = 2

#: Of data with sample weights, which a reader of the other format would silently ignore.
_FORMAT_WITH_WEIGHTS = 3


class OtherFormatError(ValueError):
    """A manifest was written by another version, in another format."""


class Column(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One column of prepared data.

    Attributes:
        name: The column's name in the user's DataFrame.
        dtype: NumPy name of the element type in the shards (``float32``, ``int64`` …).
        shape: Shape of one row's value: ``()`` for a number, ``(n,)`` for an array.
        role: ``"feature"``, ``"label"`` or ``"weight"`` (the rows' sample weights).
        mean: Mean of each element over the training rows, flattened.
        variance: Population variance of each element over the training rows.
        classes: For an integer (or integral) label of at most 1,000 distinct values: those
            values, ascending, over all rows. None if the column is no class label.
        off_binary: For an array label: rows that have a value other than 0 and 1.
        off_one_hot: For an array label: rows that are not one 1 among zeros.
        stored_as: The column's name in the shards' files if it can't be ``name``, because the
            reader takes only ASCII identifiers; otherwise empty.
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


class ShardFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One file of a shard, as it was written.

    Attributes:
        name: Its key below the shard's.
        size: Its size in bytes.
        sha256: The sha256 of its bytes, in hexadecimal digits.
    """

    name: str
    size: int
    sha256: str


class Shard(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One shard.

    Attributes:
        key: The key of its folder below the store's prefix.
        rows: Number of rows.
        files: Its files, by name; empty if they are unknown and can't be verified.
    """

    key: str
    rows: int
    files: tuple[ShardFile, ...] = ()


class Manifest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Prepared data: P training and P validation shards of equal size (within one row).

    Attributes:
        fingerprint: Names the content: same rows, columns, split, P and seed, same fingerprint.
        columns: Features first, in the requested order, then labels, then the sample weights, if
            there are any.
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
        """Return the column of a name; raises KeyError."""
        for column in self.columns:
            if column.name == name:
                return column
        raise KeyError(name)

    def to_json(self) -> str:
        """Return the manifest as JSON, with a digest of its content."""
        number = FORMAT if self.weight is None else _FORMAT_WITH_WEIGHTS
        content = {"format": number, **msgspec.to_builtins(self)}
        return json.dumps({"sha256": _digest(content), **content}, indent=1)

    @classmethod
    def from_json(cls, text: str) -> Manifest:
        """Return the manifest that :meth:`to_json` wrote.

        Raises:
            OtherFormatError: If it was written in another format.
            ValueError: If it was altered or truncated, or is something else.
        """
        # Not msgspec's own parser: it lacks the infinite numbers that statistics may have.
        fields = json.loads(text)
        try:
            number = fields.pop("format")
            if number not in (FORMAT, _FORMAT_WITH_WEIGHTS):
                raise OtherFormatError(f"it has the format {number}, not {FORMAT}")
            digest = fields.pop("sha256")
            manifest = msgspec.convert(fields, cls)
        except (AttributeError, KeyError, TypeError, msgspec.ValidationError) as error:
            raise ValueError(f"it is no manifest ({type(error).__name__}: {error})") from error
        # Of what was read, so that a field left to its default is found too.
        if digest != _digest({"format": number, **msgspec.to_builtins(manifest)}):
            raise ValueError("its content does not match its sha256: it was altered")
        return manifest


def _digest(content: dict[str, Any]) -> str:
    """Return the sha256 of a JSON value, whatever its white space."""
    text = json.dumps(content, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


@dataclass(frozen=True)
class Layout:
    """Columns of each input and output of the models.

    Attributes:
        inputs: For each model input the columns that are concatenated in it.
        outputs: For each model output the label columns that are concatenated in it.
        input_shapes: Shape of one row of each input; concatenated columns are reshaped to it.
    """

    inputs: tuple[tuple[str, ...], ...]
    outputs: tuple[tuple[str, ...], ...]
    input_shapes: tuple[tuple[int, ...], ...]

    @property
    def columns(self) -> tuple[str, ...]:
        """All columns that are read, features first."""
        return tuple(name for group in (*self.inputs, *self.outputs) for name in group)


def manifest_key(fingerprint: str) -> str:
    """Return the key of the manifest of prepared data."""
    return f"data/{fingerprint}/manifest.json"
