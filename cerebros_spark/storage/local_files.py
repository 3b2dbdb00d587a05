"""Durable files on file systems that this machine mounts: written whole, or at their ends."""

from __future__ import annotations

import contextlib
import errno
import os
import uuid
from collections.abc import Iterator
from pathlib import Path

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

_BINARY = getattr(os, "O_BINARY", 0)  # Windows has it
_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | _BINARY
# What file systems without locks, or that can't sync a folder, answer.
_UNSUPPORTED = (errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOLCK, errno.EINVAL, errno.EBADF)


def write_whole(path: str, data: bytes) -> None:
    """Writes a file, all of it or nothing; it is durable when this returns, its name included."""
    # Every hop comes by here, and after training even Path's methods are slow: strings, and the
    # folder is made only if it is missing.
    folder = os.path.dirname(path)
    temporary = f"{path}.{uuid.uuid4().hex}.tmp"
    try:
        try:
            descriptor = os.open(temporary, _NEW, 0o666)
        except FileNotFoundError:
            _make_folder(Path(folder))
            descriptor = os.open(temporary, _NEW, 0o666)
        try:
            _write_all(descriptor, data)
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(OSError):  # the first error tells more
            os.unlink(temporary)
        raise
    _sync_folder(folder)


@contextlib.contextmanager
def locked_tail(path: Path, create: bool) -> Iterator[LocalTail]:
    """The end of a file; other processes wait until this one is done with it.

    Args:
        path: The file.
        create: Whether it may be made.
    """
    flags = os.O_RDWR | os.O_APPEND | _BINARY
    if create:
        _make_folder(path.parent)
        flags |= os.O_CREAT
    while True:
        made = create and not path.exists()
        descriptor = os.open(path, flags, 0o666)
        try:
            _lock(descriptor)
            if not _is_at(descriptor, path):
                continue  # deleted or replaced while this waited for the lock
            if made:
                _sync_folder(path.parent)
            yield LocalTail(descriptor, path, made)
            return
        finally:
            _unlock(descriptor)
            os.close(descriptor)


class LocalTail:
    """The end of a file that is open and locked."""

    def __init__(self, descriptor: int, path: Path, made: bool) -> None:
        self._descriptor = descriptor
        self._path = path
        self._made = made

    def length(self) -> int:
        """Bytes there are."""
        return os.fstat(self._descriptor).st_size

    def read(self, start: int) -> bytes:
        """The bytes from there to the end."""
        with open(self._path, "rb") as file:
            file.seek(start)
            return file.read()

    def cut(self, length: int) -> None:
        """Takes away all bytes after the first so many."""
        os.ftruncate(self._descriptor, length)
        os.fsync(self._descriptor)
        # Two processes may think that they made it; only an empty one is nobody's.
        if self._made and length == 0:
            self._path.unlink()

    def add(self, data: bytes) -> None:
        """Adds bytes; if that fails there may be some of them."""
        _write_all(self._descriptor, data)
        os.fsync(self._descriptor)


def _write_all(descriptor: int, data: bytes) -> None:
    left = memoryview(data)
    while left:
        left = left[os.write(descriptor, left) :]


def _make_folder(folder: Path) -> None:
    """Makes a folder and those above it; their names are durable."""
    if not folder.is_dir():
        _make_folder(folder.parent)
        # Another process may make it too; if a file is in the way, what comes next says so.
        with contextlib.suppress(FileExistsError):
            folder.mkdir()
            _sync_folder(folder.parent)


def _sync_folder(folder: str | Path) -> None:
    """Makes the names in a folder durable, where the file system can."""
    if os.name == "nt":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        with _unsupported_is_well():
            os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _lock(descriptor: int) -> None:
    """Waits until no other process has the file locked, and locks it, where that can be."""
    if fcntl is not None:
        with _unsupported_is_well():
            fcntl.flock(descriptor, fcntl.LOCK_EX)


def _unlock(descriptor: int) -> None:
    """Gives the lock back, though a child of this process may have the file open as well."""
    if fcntl is not None:
        with contextlib.suppress(OSError):  # it is closed next, which does the same
            fcntl.flock(descriptor, fcntl.LOCK_UN)


def _is_at(descriptor: int, path: Path) -> bool:
    """Whether an open file is still the one at that path."""
    try:
        return os.path.samestat(os.fstat(descriptor), os.stat(path))
    except FileNotFoundError:
        return False


@contextlib.contextmanager
def _unsupported_is_well() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno not in _UNSUPPORTED:
            raise
