"""Stores: bytes by key, below one prefix, written atomically.

Everything this project keeps (prepared data, model states, the journal) goes through a store.
The file systems themselves are fsspec's. What fails but may pass, like a full disk or a mount
that is away for a moment, is tried again here and nowhere else.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import logging
import os
import posixpath
import uuid
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, TypeVar

import fsspec
import tenacity

from cerebros_spark.core.errors import ArgumentError, StoreError
from cerebros_spark.core.retry import retried
from cerebros_spark.storage.append import AnyTail, Append, Attempts, Tail
from cerebros_spark.storage.local_files import locked_tail, write_whole
from cerebros_spark.storage.options import check_no_secrets

logger = logging.getLogger("cerebros_spark")

_T = TypeVar("_T")
_BLOCK = 2**22
DELETIONS = 5
# What a kind of URL needs besides.
_EXTRAS = {"s3": "s3", "s3a": "s3"}

# Errors that say the same however often one asks.
_FINAL = (
    FileNotFoundError, FileExistsError, IsADirectoryError, NotADirectoryError, StoreError,
)  # fmt: skip
_ADVICE = {
    errno.ENOSPC: "free space there",
    errno.EDQUOT: "free space there or raise the quota",
    errno.EFBIG: "raise the limit on the size of files",
    errno.EACCES: "check the rights there",
    errno.EPERM: "check the rights there",
    errno.EROFS: "it is mounted read-only",
}


class Store:
    """Bytes by key below ``url``, on any file system that fsspec knows.

    Keys are relative paths with ``/``. A reader sees the old bytes of a key or the new ones,
    never a part: ``write`` puts them under another name first and then moves it in place.
    A store pickles as its address, so workers open their own; options must not be credentials.

    An operation that fails with an error that may pass is tried again, after waits that become
    four times as long each. What fails in the end is a StoreError that names the key.

    Args:
        url: Where the store lies, for example ``file:///data/runs`` or ``memory://runs``.
        **options: Options for the fsspec file system.

    Attributes:
        tries: How often an operation is tried in all.
        first_wait: Seconds before the second try.
        reads_in_place: Whether a shard is read where it lies. If not, workers copy theirs first.

    Raises:
        ArgumentError: If there is no such kind of store, what it needs is not installed, or an
            option is a credential.
    """

    tries: int = 4
    first_wait: float = 0.1
    reads_in_place: bool = True

    def __init__(self, url: str, **options: Any) -> None:
        self._open(url, options)

    def _open(self, url: str, options: dict[str, Any]) -> None:
        check_no_secrets(url, options)
        self._options = options
        try:
            self._fs, root = fsspec.core.url_to_fs(url, **self._filesystem_options())
        except (ImportError, ValueError) as error:
            extra = _EXTRAS.get(url.partition("://")[0])
            advice = f'; pip install "cerebros-spark[{extra}]"' if extra else ""
            raise ArgumentError(f"no store can be opened at {url!r}: {error}{advice}") from error
        self._root = str(root).rstrip("/")
        self.url = self._fs.unstrip_protocol(self._root)

    @staticmethod
    def create(prefix_path: str, **options: Any) -> Store:
        """Opens the store at a path or URL.

        Args:
            prefix_path: A path, or a URL that fsspec knows: ``s3://bucket/prefix`` gives an
                S3Store, ``hdfs://host:port/folder`` an HDFSStore, ``file:///folder`` a LocalStore.
            **options: Options for the file system, without credentials.

        Raises:
            ArgumentError: If there is no such kind of store, or an option can't be used.
            StoreError: If it can't be opened.
        """
        scheme, is_url, _ = prefix_path.partition("://")
        if not is_url:
            return LocalStore(prefix_path)
        if scheme == "file" and not options:
            return LocalStore(fsspec.core.strip_protocol(prefix_path))
        if scheme in ("s3", "s3a"):
            from cerebros_spark.storage.s3 import S3Store

            return S3Store(prefix_path, **options)
        if scheme == "hdfs":
            from cerebros_spark.storage.hdfs import HDFSStore

            return HDFSStore(prefix_path, **options)
        return Store(prefix_path, **options)

    def read(self, key: str) -> bytes:
        """The bytes of a key; raises StoreError, at once if there is none."""
        path = self._path(key)
        return self._tried("read from", key, lambda: bytes(self._fs.cat_file(path)))

    def digest(self, key: str) -> tuple[int, str]:
        """Size and sha256 of a key's bytes, which are read in blocks and not kept."""
        path = self._path(key)

        def digest() -> tuple[int, str]:
            size, content = 0, hashlib.sha256()
            with self._fs.open(path, "rb") as file:
                while block := file.read(_BLOCK):
                    size += len(block)
                    content.update(block)
            return size, content.hexdigest()

        return self._tried("read from", key, digest)

    def fetch(self, key: str, target: Path) -> None:
        """Copies a key's bytes into a file of this machine."""
        path = self._path(key)
        self._tried("copied from", key, lambda: self._fs.get_file(path, str(target)))

    def write(self, key: str, data: bytes) -> None:
        """Puts bytes under a key, all of them or none."""
        path = self._path(key)
        self._tried("written to", key, lambda: self._write(path, data))

    def append(self, key: str, data: bytes, at: int | None = None, instead_of: bytes = b"") -> None:
        """Adds bytes at the end of a key's, all of them or none.

        On a file system that has locks and can cut a file (LocalStore), or conditional requests
        (S3Store), that holds whatever happens. On others the old bytes are put back after a
        failure, and two processes that append at the very same moment are not kept apart.

        Args:
            key: The key; it is made if it is not there.
            data: The bytes to add.
            at: How many bytes there must be before, 0 for a key that is not there; None for any.
            instead_of: Bytes after those ``at`` that the data takes the place of, if they are
                still there: what a crash left of an earlier append.

        Raises:
            StoreError: If there are more or fewer bytes than ``at``; nothing is added. Or if
                they can't be added.
        """
        append = self._append(key, data, at, instead_of)
        try:
            self._tried("appended to in", key, append)
        except StoreError as error:
            if append.left_after is None:
                raise
            raise StoreError(
                f"{error}; some of the new bytes may be left after the first {append.left_after}"
            ) from error

    def list(self, prefix: str) -> list[str]:
        """The keys below a folder, sorted; empty if there is no such folder."""
        folder = self._path(prefix)
        start = len(self._root) + 1
        paths = self._tried("listed in", prefix, lambda: self._find(folder))
        return sorted(path[start:] for path in paths if not path.endswith(".tmp"))

    def delete(self, prefix: str) -> None:
        """Removes a key, or all keys below a folder; nothing happens if there is none."""
        path = self._path(prefix)
        self._tried("deleted from", prefix, lambda: self._delete(path))

    def changed(self, key: str) -> datetime | None:
        """When a key's bytes were last written; None where the file system does not tell."""
        path = self._path(key)

        def changed() -> datetime | None:
            try:
                found: datetime = self._fs.modified(path)
            except NotImplementedError:
                return None
            return found if found.tzinfo else found.replace(tzinfo=timezone.utc)

        return self._tried("looked at in", key, changed)

    def address(self, key: str) -> str:
        """The URL of a key, for a library that reads or writes there by itself."""
        return f"{self.url.rstrip('/')}/{key}"

    @property
    def filesystem(self) -> Any:
        """The fsspec file system, for a library that takes one."""
        return self._fs

    def _filesystem_options(self) -> dict[str, Any]:
        return self._options

    # One try -----------------------------------------------------------------------------

    def _append(self, key: str, data: bytes, at: int | None, instead_of: bytes) -> Attempts:
        path, name = self._path(key), f"{key!r} in {self.url}"
        return Append(lambda create: self._tail(path, create), name, data, at, instead_of)

    def _write(self, path: str, data: bytes) -> None:
        temporary = f"{path}.{uuid.uuid4().hex}.tmp"
        self._fs.makedirs(posixpath.dirname(path), exist_ok=True)
        try:
            self._fs.pipe_file(temporary, data)
            self._fs.mv(temporary, path)
        except BaseException:
            with contextlib.suppress(OSError):  # the first error tells more
                self._fs.rm_file(temporary)
            raise

    def _tail(self, path: str, create: bool) -> AbstractContextManager[Tail]:
        """The end of a file, to append to."""
        if create:
            self._fs.makedirs(posixpath.dirname(path), exist_ok=True)
        return contextlib.nullcontext(AnyTail(self._fs, path, self._write))

    def _find(self, folder: str) -> Iterable[str]:
        self._fs.invalidate_cache(folder)
        return [str(path) for path in self._fs.find(folder)]

    def _delete(self, path: str) -> None:
        # Where another process removes something of it at the same time, the rest is left to do.
        for _ in range(DELETIONS):
            self._fs.invalidate_cache(posixpath.dirname(path))
            try:
                self._fs.info(path)
            except (FileNotFoundError, NotADirectoryError):
                return
            with contextlib.suppress(FileNotFoundError):
                self._fs.rm(path, recursive=True)
        raise OSError(errno.EBUSY, "another process writes there", path)

    # Again and again ---------------------------------------------------------------------

    def _tried(self, done: str, key: str, attempt: Callable[[], _T]) -> _T:
        """What the call gives, if need be at a later try; what fails for good is a StoreError."""
        failed = f"{key!r} can't be {done} {self.url}"
        if done == "opened":
            failed = f"the store {self.url} can't be opened"

        def told(state: tenacity.RetryCallState) -> None:
            logger.warning(
                "%s (%s): try %d of %d follows in %.1f s",
                failed,
                state.outcome.exception() if state.outcome else None,
                state.attempt_number + 1,
                self.tries,
                state.upcoming_sleep,
            )

        try:
            return retried(
                attempt,
                retry=tenacity.retry_if_exception(self._may_pass),
                stop=tenacity.stop_after_attempt(self.tries),
                wait=tenacity.wait_exponential(multiplier=self.first_wait, exp_base=4),
                before_sleep=told,
            )
        except StoreError:
            raise
        except (OSError, ValueError, NotImplementedError) as error:
            often = f" ({self.tries} tries)" if self._may_pass(error) and self.tries > 1 else ""
            advice = self._advice(error)
            raise StoreError(
                f"{failed}{often}: {error or type(error).__name__}"
                + (f"; {advice}" if advice else "")
            ) from error

    def _may_pass(self, error: BaseException) -> bool:
        return isinstance(error, OSError) and not isinstance(error, _FINAL)

    def _advice(self, error: BaseException) -> str | None:
        """What to do about an error."""
        return _ADVICE.get(getattr(error, "errno", None) or 0)

    def _path(self, key: str) -> str:
        if key.startswith("/") or ".." in key.split("/"):
            raise ArgumentError(f"a key is a relative path without '..', but got {key!r}")
        return f"{self._root}/{key}"

    def __reduce__(self) -> tuple[Any, ...]:
        return (_reopen, (type(self), self.url, self._options))

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.url!r})"


class LocalStore(Store):
    """A store in a folder of this machine, or of a file system that all machines mount.

    What was written or appended is durable when the call returns, its name included. Appends
    of several processes take turns.

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

    def _write(self, path: str, data: bytes) -> None:
        write_whole(path, data)

    def _tail(self, path: str, create: bool) -> AbstractContextManager[Tail]:
        return locked_tail(Path(path), create)

    def _delete(self, path: str) -> None:
        # Each hop leaves one file: fsspec's way is for folders.
        if os.path.isfile(path):
            with contextlib.suppress(FileNotFoundError):
                os.unlink(path)
            return
        super()._delete(path)

    def _find(self, folder: str) -> Iterable[str]:
        if os.path.isfile(folder):
            return [folder]

        def told(error: OSError) -> None:
            # What another process has removed meanwhile is not there.
            if not isinstance(error, FileNotFoundError | NotADirectoryError):
                raise error

        walk = os.walk(folder, onerror=told)
        return [os.path.join(parent, name) for parent, _, names in walk for name in names]

    def __reduce__(self) -> tuple[Any, ...]:
        return (LocalStore, (str(self._folder),))


def write_checked(store: Store, key: str, data: bytes) -> None:
    """Writes a small file whose first line is the sha256 of the rest."""
    store.write(key, hashlib.sha256(data).hexdigest().encode() + b"\n" + data)


def read_checked(store: Store, key: str) -> bytes:
    """What :func:`write_checked` wrote.

    Raises:
        StoreError: If it can't be read or is not what was written.
    """
    digest, _, data = store.read(key).partition(b"\n")
    if digest != hashlib.sha256(data).hexdigest().encode():
        raise StoreError(
            f"{key!r} in {store.url} is not what was written there: the file was changed or cut "
            "short"
        )
    return data


def _reopen(kind: type[Store], url: str, options: dict[str, Any]) -> Store:
    """A store opened without a look at what is there, which is left to its first use."""
    store = kind.__new__(kind)
    store._open(url, options)
    return store
