"""Stores: bytes by key, below one prefix, written atomically.

Everything this project keeps (prepared data, model states, the journal) goes through a store.
The file systems themselves are fsspec's.
"""

from __future__ import annotations

import os
import posixpath
import uuid
from pathlib import Path
from typing import Any

import fsspec

from cerebros_spark.errors import ArgumentError, StoreError


class Store:
    """Bytes by key below ``url``, on any file system that fsspec knows.

    Keys are relative paths with ``/``. A reader sees the old bytes of a key or the new ones,
    never a part: ``write`` puts them under another name first and then moves it in place.
    A store pickles as its address, so workers open their own.

    Args:
        url: Where the store lies, for example ``file:///data/runs`` or ``memory://runs``.
        **options: Options for the fsspec file system.
    """

    def __init__(self, url: str, **options: Any) -> None:
        try:
            self._fs, root = fsspec.core.url_to_fs(url, **options)
        except (ImportError, ValueError) as error:
            raise ArgumentError(f"no store can be opened at {url!r}: {error}") from error
        self._options = options
        self._root = str(root).rstrip("/")
        self.url = self._fs.unstrip_protocol(self._root)

    @staticmethod
    def create(prefix_path: str, **options: Any) -> Store:
        """Opens the store at a path or URL."""
        if "://" not in prefix_path:
            return LocalStore(prefix_path)
        return Store(prefix_path, **options)

    def read(self, key: str) -> bytes:
        """The bytes of a key; raises StoreError if there is none."""
        try:
            return bytes(self._fs.cat_file(self._path(key)))
        except OSError as error:
            raise StoreError(f"{key!r} can't be read from {self.url}: {error}") from error

    def write(self, key: str, data: bytes) -> None:
        """Puts bytes under a key, all of them or none."""
        path = self._path(key)
        temporary = f"{path}.{uuid.uuid4().hex}.tmp"
        try:
            self._fs.makedirs(posixpath.dirname(path), exist_ok=True)
            try:
                self._fs.pipe_file(temporary, data)
                self._fs.mv(temporary, path)
            except BaseException:
                if self._fs.exists(temporary):
                    self._fs.rm_file(temporary)
                raise
        except OSError as error:
            raise StoreError(f"{key!r} can't be written to {self.url}: {error}") from error

    def append(self, key: str, data: bytes) -> None:
        """Adds bytes at the end of a key's; they are durable when this returns."""
        path = self._path(key)
        try:
            self._fs.makedirs(posixpath.dirname(path), exist_ok=True)
            with self._fs.open(path, "ab") as file:
                file.write(data)
        except (OSError, ValueError, NotImplementedError) as error:
            raise StoreError(f"{key!r} can't be appended to in {self.url}: {error}") from error

    def list(self, prefix: str) -> list[str]:
        """The keys below a folder, sorted; empty if there is no such folder."""
        folder = self._path(prefix)
        self._fs.invalidate_cache(folder)
        start = len(self._root) + 1
        return sorted(
            path[start:] for path in self._fs.find(folder) if not str(path).endswith(".tmp")
        )

    def delete(self, prefix: str) -> None:
        """Removes a key, or all keys below a folder; nothing happens if there is none."""
        path = self._path(prefix)
        try:
            if self._fs.exists(path):
                self._fs.rm(path, recursive=True)
        except OSError as error:
            raise StoreError(f"{prefix!r} can't be deleted from {self.url}: {error}") from error

    def address(self, key: str) -> str:
        """The URL of a key, for a library that reads or writes there by itself."""
        return f"{self.url.rstrip('/')}/{key}"

    @property
    def filesystem(self) -> Any:
        """The fsspec file system, for a library that takes one."""
        return self._fs

    def _path(self, key: str) -> str:
        if key.startswith("/") or ".." in key.split("/"):
            raise ArgumentError(f"a key is a relative path without '..', but got {key!r}")
        return f"{self._root}/{key}"

    def __reduce__(self) -> tuple[Any, ...]:
        return (_reopen, (self.url, self._options))

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.url!r})"


class LocalStore(Store):
    """A store in a folder of this machine, or of a file system that all machines mount.

    Args:
        prefix_path: The folder; it is made if it is not there.

    Raises:
        StoreError: If the folder can't be made or written.
    """

    def __init__(self, prefix_path: str | os.PathLike[str]) -> None:
        folder = Path(prefix_path).expanduser().absolute()
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise StoreError(f"the store path {str(folder)!r} can't be made: {error}") from error
        if not os.access(folder, os.W_OK | os.X_OK):
            raise StoreError(f"the store path {str(folder)!r} can't be written by this user")
        super().__init__(f"file://{folder.as_posix()}")
        self._folder = folder

    def write(self, key: str, data: bytes) -> None:
        """Puts bytes under a key, all of them or none; durable when this returns."""
        path = Path(self._path(key))
        temporary = path.with_name(f"{path.name}.{uuid.uuid4().hex}.tmp")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            try:
                with open(temporary, "wb") as file:
                    file.write(data)
                    file.flush()
                    os.fsync(file.fileno())
                os.replace(temporary, path)
            except BaseException:
                temporary.unlink(missing_ok=True)
                raise
        except OSError as error:
            raise StoreError(f"{key!r} can't be written to {self.url}: {error}") from error

    def append(self, key: str, data: bytes) -> None:
        """Adds bytes at the end of a key's; durable when this returns."""
        path = Path(self._path(key))
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with open(path, "ab") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise StoreError(f"{key!r} can't be appended to in {self.url}: {error}") from error

    def __reduce__(self) -> tuple[Any, ...]:
        return (LocalStore, (str(self._folder),))


def _reopen(url: str, options: dict[str, Any]) -> Store:
    return Store(url, **options)
