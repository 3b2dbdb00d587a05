"""Atomic appends: they add all bytes or none, even after retries."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Protocol

from cerebros_spark.core.errors import StoreError


@dataclass(kw_only=True)
class Append:
    """Append operation on one file; each call is one attempt.

    Attributes:
        name: Name of the file in error messages.
        data: Bytes to add.
        at: Required length of the file before the append, in bytes; None if any is allowed.
        instead_of: Bytes that ``data`` replaces if nothing else follows the first ``at`` bytes.
        left_after: Length of the file before a failed attempt that could not be undone; None if
            there is none.
    """

    name: str
    data: bytes
    at: int | None
    instead_of: bytes
    left_after: int | None = None

    def __call__(self) -> None:
        """Append the bytes; raise StoreError if the file did not have the required length."""
        raise NotImplementedError

    def length_error(self, length: int, required: int) -> StoreError:
        """Return the error for a file of ``length`` bytes where ``required`` are expected."""
        return StoreError(
            f"cannot append to {self.name}: it is {length} bytes long, not {required}; another "
            "process writes to it"
        )


class Tail(Protocol):
    """End of a file, which can be read, truncated and extended."""

    def length(self) -> int:
        """Return the length of the file in bytes; 0 if the file does not exist."""

    def read(self, start: int) -> bytes:
        """Return the bytes from offset ``start`` to the end."""

    def cut(self, length: int) -> None:
        """Truncate the file to ``length`` bytes."""

    def add(self, data: bytes) -> None:
        """Add bytes; a failure may leave some of them in the file."""


@dataclass(kw_only=True)
class TailAppend(Append):
    """Append to a file that can be extended; each attempt first removes a failed attempt's bytes.

    Attributes:
        open_tail: Function that opens the end of the file; its argument is whether to create a
            missing file.
    """

    open_tail: Callable[[bool], AbstractContextManager[Tail]]

    def __call__(self) -> None:
        """Append the bytes; raise StoreError if the file did not have the required length."""
        create = not self.at  # a file that must already contain bytes is not created
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
            with contextlib.suppress(OSError):  # the next attempt truncates it
                tail.cut(length)
                self.left_after = None
            raise

    def _undo(self, tail: Tail) -> int:
        """Remove the bytes that a failed attempt left, if any; return the length of the file."""
        length, before = tail.length(), self.left_after
        if before is None or length == before:
            return length
        if length < before or not self.data.startswith(tail.read(before)):
            raise self.length_error(length, before)
        tail.cut(before)
        return before
