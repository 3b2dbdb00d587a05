"""Appends that add all bytes or none, however often they are retried."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Protocol

from cerebros_spark.core.errors import StoreError


class Append:
    """One append. Each call is a try.

    Args:
        name: Name of the file in error messages.
        data: The bytes to add.
        at: Required length of the file before the append, in bytes; None for any.
        instead_of: Bytes after those ``at`` that the data replaces, if they are still there.

    Attributes:
        left_after: Length of the file before a failure that could not be undone, else None.
    """

    def __init__(self, name: str, data: bytes, at: int | None, instead_of: bytes) -> None:
        self._name = name
        self._data = data
        self._at = at
        self._instead_of = instead_of
        self.left_after: int | None = None

    def __call__(self) -> None:
        """Add the bytes.

        Raises:
            StoreError: If the file does not have the required length.
            OSError: If the bytes can't be added.
        """
        raise NotImplementedError

    def _length_error(self, length: int, required: int) -> StoreError:
        return StoreError(
            f"cannot append to {self._name}: it is {length} bytes long, not {required}; another "
            "process writes to it"
        )


class Tail(Protocol):
    """The end of a file."""

    def length(self) -> int:
        """Return the number of bytes; 0 if there is no file."""

    def read(self, start: int) -> bytes:
        """Return the bytes from an offset to the end."""

    def cut(self, length: int) -> None:
        """Truncate the file."""

    def add(self, data: bytes) -> None:
        """Add bytes; after a failure some of them may be there."""


class TailAppend(Append):
    """One append to a file that can be extended. Each try first removes what the last one left.

    Args:
        open_tail: Opens the end of the file; its argument says whether to create the file.
        name: As in :class:`Append`, and so are the others.
        data: The bytes to add.
        at: Required length.
        instead_of: Bytes to replace.
    """

    def __init__(
        self,
        open_tail: Callable[[bool], AbstractContextManager[Tail]],
        name: str,
        data: bytes,
        at: int | None,
        instead_of: bytes,
    ) -> None:
        super().__init__(name, data, at, instead_of)
        self._open_tail = open_tail

    def __call__(self) -> None:
        """Add the bytes."""
        create = not self._at  # a file that must have bytes already is not created
        try:
            with self._open_tail(create) as tail:
                self._add(tail)
        except FileNotFoundError as error:
            if create:
                raise
            raise self._length_error(0, self._at or 0) from error

    def _add(self, tail: Tail) -> None:
        length, at = self._undo(tail), self._at
        if self._instead_of and length != at and tail.read(at or 0) == self._instead_of:
            length = at or 0
            tail.cut(length)
        if at is not None and length != at:
            raise self._length_error(length, at)
        try:
            tail.add(self._data)
        except BaseException:
            self.left_after = length
            with contextlib.suppress(OSError):  # the next try cuts it
                tail.cut(length)
                self.left_after = None
            raise

    def _undo(self, tail: Tail) -> int:
        """Remove what an earlier try left, and only that; return the length."""
        length, before = tail.length(), self.left_after
        if before is None or length == before:
            return length
        if length < before or not self._data.startswith(tail.read(before)):
            raise self._length_error(length, before)
        tail.cut(before)
        return before
