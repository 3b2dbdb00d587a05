"""Adding bytes at the end of a file, all of them or none, at whichever try."""

from __future__ import annotations

import contextlib
import errno
import posixpath
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any, Protocol

from cerebros_spark.core.errors import StoreError


class Tail(Protocol):
    """The end of a file."""

    def length(self) -> int:
        """Bytes there are; 0 if there is no file."""

    def read(self, start: int) -> bytes:
        """The bytes from there to the end."""

    def cut(self, length: int) -> None:
        """Takes away all bytes after the first so many."""

    def add(self, data: bytes) -> None:
        """Adds bytes; if that fails there may be some of them."""


class Attempts(Protocol):
    """One append, each call of which is a try.

    Attributes:
        left_after: How long the file was before a failure that could not be undone; None if
            nothing is left.
    """

    left_after: int | None

    def __call__(self) -> None:
        """Adds the bytes."""


def other_length(name: str, length: int, wanted: int) -> StoreError:
    """The error that a file is not as long as it must be."""
    return StoreError(f"{name} is {length} bytes long, not {wanted}: another process writes to it")


class Append:
    """One append. Each call is a try, which first removes what an earlier one left.

    Args:
        tail: Opens the end of the file; it is told whether the file may be made.
        name: How errors call the file.
        data: The bytes to add.
        at: How many bytes there must be before; None for any number.
        instead_of: Bytes after those ``at`` that the data takes the place of, if they are there.

    Attributes:
        left_after: How long the file was before a failure that could not be undone; None if
            nothing is left.
    """

    def __init__(
        self,
        tail: Callable[[bool], AbstractContextManager[Tail]],
        name: str,
        data: bytes,
        at: int | None,
        instead_of: bytes,
    ) -> None:
        self._tail = tail
        self._name = name
        self._data = data
        self._at = at
        self._instead_of = instead_of
        self.left_after: int | None = None

    def __call__(self) -> None:
        """Adds the bytes.

        Raises:
            StoreError: If there are more or fewer bytes than there must be.
            OSError: If they can't be added.
        """
        try:
            # A file that must have bytes already is not made.
            with self._tail(not self._at) as tail:
                self._add(tail)
        except FileNotFoundError as error:
            if not self._at:
                raise
            raise other_length(self._name, 0, self._at) from error

    def _add(self, tail: Tail) -> None:
        length, at = self._undo(tail), self._at
        if self._instead_of and length != at and tail.read(at or 0) == self._instead_of:
            tail.cut(at or 0)
            length = at or 0
        if at is not None and length != at:
            raise other_length(self._name, length, at)
        try:
            tail.add(self._data)
        except BaseException:
            self.left_after = length
            with contextlib.suppress(OSError):  # then the next try cuts it
                tail.cut(length)
                self.left_after = None
            raise

    def _undo(self, tail: Tail) -> int:
        """Removes what an earlier try left, but nothing that it did not write; the length."""
        length, before = tail.length(), self.left_after
        if before is None or length == before:
            return length
        if length < before or not self._data.startswith(tail.read(before)):
            raise other_length(self._name, length, before)
        tail.cut(before)
        return before


class AnyTail:
    """The end of a file on any file system of fsspec's: what can't be cut is written anew.

    Args:
        filesystem: The file system.
        path: The file's path there.
        replace: Writes the file anew, all of it or nothing.
    """

    def __init__(self, filesystem: Any, path: str, replace: Callable[[str, bytes], None]) -> None:
        self._fs = filesystem
        self._path = path
        self._replace = replace

    def length(self) -> int:
        """Bytes there are; 0 if there is no file."""
        self._fs.invalidate_cache(posixpath.dirname(self._path))
        try:
            return int(self._fs.info(self._path)["size"])
        except FileNotFoundError:
            return 0

    def read(self, start: int) -> bytes:
        """The bytes from there to the end."""
        return bytes(self._fs.cat_file(self._path))[start:]

    def cut(self, length: int) -> None:
        """Takes away all bytes after the first so many."""
        if self.length() == length:
            return
        if length == 0:
            self._fs.rm_file(self._path)
            return
        old = self.read(0)[:length]
        if len(old) < length:
            raise OSError(errno.EIO, f"{length - len(old)} bytes are lost", self._path)
        self._replace(self._path, old)

    def add(self, data: bytes) -> None:
        """Adds bytes; if that fails there may be some of them."""
        with self._fs.open(self._path, "ab") as file:
            file.write(data)
