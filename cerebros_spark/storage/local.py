"""Stores in local or mounted folders, with durable writes."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import uuid
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cerebros_spark.core.errors import StoreError
from cerebros_spark.storage.append import Tail
from cerebros_spark.storage.store import Store

_NEW_FILE = os.O_WRONLY | os.O_CREAT | os.O_EXCL
# Errors of file systems that do not support locks, or fsync of folders.
_UNSUPPORTED = (errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOLCK, errno.EINVAL, errno.EBADF)


class LocalStore(Store):
    """Store in a folder of this machine, or of a file system that all machines mount.

    Writes and appends, including new file names, are durable when the call returns. Simultaneous
    appends are serialized by a file lock.

    Args:
        prefix_path: Path of the folder, which is created if it is missing.

    Attributes:
        folder: Absolute path of the folder.

    Raises:
        StoreError: If the folder cannot be created, or is not writable.
    """

    reads_in_place = True

    def __init__(self, prefix_path: str | os.PathLike[str]) -> None:
        self.folder = Path(prefix_path).expanduser().absolute()
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise StoreError(f"cannot create the store {str(self.folder)!r}: {error}") from error
        if not os.access(self.folder, os.W_OK | os.X_OK):
            raise StoreError(
                f"cannot write to the store {str(self.folder)!r}: this user lacks the permission"
            )
        super().__init__(f"file://{self.folder.as_posix()}")

    def _write(self, path: str, data: bytes) -> None:
        _write_file(path, data)

    def _tail(self, path: str, create: bool) -> AbstractContextManager[Tail]:
        return _lock_tail(Path(path), create)

    def _delete(self, path: str) -> None:
        # Each hop deletes one file, and fsspec's recursive deletion is slow.
        if os.path.isfile(path):
            with contextlib.suppress(FileNotFoundError):
                os.unlink(path)
            return
        super()._delete(path)

    def _find(self, folder: str) -> Iterable[str]:
        if os.path.isfile(folder):
            return [folder]

        def raise_others(error: OSError) -> None:
            # Another process may delete folders at the same time.
            if not isinstance(error, FileNotFoundError | NotADirectoryError):
                raise error

        walk = os.walk(folder, onerror=raise_others)
        return [os.path.join(parent, name) for parent, _, names in walk for name in names]

    def __reduce__(self) -> tuple[Any, ...]:
        return (LocalStore, (str(self.folder),))


def _write_file(path: str, data: bytes) -> None:
    """Write a file atomically and durably."""
    # Every hop writes a file, and after training even Path's methods are slow: so paths are
    # strings, and the folder is created only if it is missing.
    folder = os.path.dirname(path)
    temporary = f"{path}.{uuid.uuid4().hex}.tmp"
    try:
        try:
            descriptor = os.open(temporary, _NEW_FILE, 0o666)
        except FileNotFoundError:
            _create_folder(Path(folder))
            descriptor = os.open(temporary, _NEW_FILE, 0o666)
        try:
            _write_all(descriptor, data)
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(OSError):  # the first error matters
            os.unlink(temporary)
        raise
    _sync_folder(folder)


@contextlib.contextmanager
def _lock_tail(path: Path, create: bool) -> Iterator[Tail]:
    """Open a file and lock it within the context, so that other processes wait."""
    flags = os.O_RDWR | os.O_APPEND
    if create:
        _create_folder(path.parent)
        flags |= os.O_CREAT
    while True:
        is_new = create and not path.exists()
        descriptor = os.open(path, flags, 0o666)
        try:
            with _ignore_unsupported():
                fcntl.flock(descriptor, fcntl.LOCK_EX)
            if not _is_at(descriptor, path):
                continue  # deleted or replaced while this process waited for the lock
            if is_new:
                _sync_folder(path.parent)
            yield _LockedTail(descriptor, path, is_new)
            return
        finally:
            # Closing does not unlock a file that a child process also has open.
            with contextlib.suppress(OSError):
                fcntl.flock(descriptor, fcntl.LOCK_UN)
            os.close(descriptor)


@dataclass(frozen=True)
class _LockedTail:
    """End of an open, locked file."""

    descriptor: int
    path: Path
    is_new: bool

    def length(self) -> int:
        return os.fstat(self.descriptor).st_size

    def read(self, start: int) -> bytes:
        with open(self.path, "rb") as file:
            file.seek(start)
            return file.read()

    def cut(self, length: int) -> None:
        os.ftruncate(self.descriptor, length)
        os.fsync(self.descriptor)
        # Two processes may both assume that they created it: only delete an empty file.
        if self.is_new and length == 0:
            self.path.unlink()

    def add(self, data: bytes) -> None:
        _write_all(self.descriptor, data)
        os.fsync(self.descriptor)


def _write_all(descriptor: int, data: bytes) -> None:
    left = memoryview(data)
    while left:
        left = left[os.write(descriptor, left) :]


def _create_folder(folder: Path) -> None:
    """Create a folder and its parents durably."""
    if not folder.is_dir():
        _create_folder(folder.parent)
        # Another process may create it too. If it is a file, the next call raises.
        with contextlib.suppress(FileExistsError):
            folder.mkdir()
            _sync_folder(folder.parent)


def _sync_folder(folder: str | Path) -> None:
    """Make a folder's directory entries durable, if the file system supports this."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        with _ignore_unsupported():
            os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _is_at(descriptor: int, path: Path) -> bool:
    """Return whether an open file is still the file at ``path``."""
    try:
        return os.path.samestat(os.fstat(descriptor), os.stat(path))
    except FileNotFoundError:
        return False


@contextlib.contextmanager
def _ignore_unsupported() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno not in _UNSUPPORTED:
            raise
