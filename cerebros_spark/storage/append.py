"""Appends that add all bytes or none, however often they are retried."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Protocol

from cerebros_spark.core.errors import StoreError


@dataclass(kw_only=True)
class Append:
    """One append. Each call is a try, and raises StoreError if the file has another length.

    Attributes:
        name: Name of the file in error messages.
        data: The bytes to add.
        at: Required length of the file before the append, in bytes; None for any.
        instead_of: Bytes after those ``at`` that the data replaces, if they are still there.
        left_after: Length of the file before a failure that could not be undone, else None.
    """

    name: str
    data: bytes
    at: int | None
    instead_of: bytes
    left_after: int | None = None

    def __call__(self) -> None:
        """Add the bytes."""
        raise NotImplementedError

    def length_error(self, length: int, required: int) -> StoreError:
        """Return the error for a file of another length."""
        return StoreError(
            f"cannot append to {self.name}: it is {length} bytes long, not {required}; another "
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


@dataclass(kw_only=True)
class TailAppend(Append):
    """One append to a file that can be extended. Each try first removes what the last one left.

    Attributes:
        open_tail: Opens the end of the file; its argument says whether to create the file.
    """

    open_tail: Callable[[bool], AbstractContextManager[Tail]]

    def __call__(self) -> None:
        """Add the bytes."""
        create = not self.at  # a file that must have bytes already is not created
        try:
            with self.open_tail(create) as tail:
                self._add(tail)
        except FileNotFoundError as error:
            if create:
                raise
            raise self.length_error(0, self.at or 0) from error

    def _add(self, tail: Tail) -> None:
        length = self._undo(tail)
        if self.instead_of and length != self.at and tail.read(self.at or 0) == self.instead_of:
            length = self.at or 0
            tail.cut(length)
        if self.at is not None and length != self.at:
            raise self.length_error(length, self.at)
        try:
            tail.add(self.data)
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
        if length < before or not self.data.startswith(tail.read(before)):
            raise self.length_error(length, before)
        tail.cut(before)
        return before
