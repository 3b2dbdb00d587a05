"""Base class of all stores: bytes by key below a prefix, written atomically.

Prepared data, model states and journals are kept in a store. Only this module retries transient
storage errors, such as a full disk or a missing mount.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import logging
import posixpath
import re
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, TypeVar

import fsspec
import tenacity

from cerebros_spark.core.errors import ArgumentError, StoreError
from cerebros_spark.core.retry import call_with_retry
from cerebros_spark.storage.append import Append, Tail, TailAppend

logger = logging.getLogger(__name__)

_T = TypeVar("_T")
#: Number of bytes to read at a time when computing a digest.
DIGEST_BLOCK = 2**22
DELETE_PASSES = 5

#: Functions that open a URL, by scheme; the scheme of a path is "". The factory registers them.
OPENERS: dict[str, Callable[..., Store]] = {}

# Extra of this package that each scheme requires.
_EXTRAS = {"s3": "s3", "s3a": "s3"}
_PERMANENT = (
    FileNotFoundError, FileExistsError, IsADirectoryError, NotADirectoryError, StoreError,
)  # fmt: skip
_ADVICE = {
    errno.ENOSPC: "free space there",
    errno.EDQUOT: "free space there or raise the quota",
    errno.EFBIG: "raise the limit on the size of files",
    errno.EACCES: "check the permissions there",
    errno.EPERM: "check the permissions there",
    errno.EROFS: "it is mounted read-only",
}
_SECRET = re.compile(
    r"(.*_)?(key|secret|token|password|passwd|passphrase|credentials?|sas|connection_string"
    r"|access_key_id)|.*customer_?key",
    re.IGNORECASE,
)
_PASSWORD_IN_URL = re.compile(r"//[^/@]*:[^/@]*@")
_SECRET_ADVICE = (
    "options travel to the workers and into pickles, so leave credentials to the environment of "
    "the driver and of every worker (variables, a profile, the machine's role)"
)


class Store:
    """Store of bytes by key below ``url``, on any file system that fsspec supports.

    Keys are relative paths with ``/``. A reader sees either the old or the new bytes of a key,
    never a mixture: ``write`` creates a temporary file and renames it. A store is pickled as its
    URL and options, and each worker opens its own store, so options must not be credentials.

    An operation that fails with a transient error is retried; each wait is four times as long as
    the previous one. A permanent failure raises a StoreError that names the key.

    Args:
        url: URL of the store, for example ``file:///data/runs`` or ``memory://runs``.
        **options: Options for the fsspec file system.

    Attributes:
        tries: Maximum number of attempts at an operation.
        first_wait: Seconds to wait before the second attempt.
        reads_in_place: Whether workers read shards directly from the store instead of copying
            them to their disk.

    Raises:
        ArgumentError: If no store supports the URL, a package is missing, or an option is a
            credential.
    """

    tries: int = 4
    first_wait: float = 0.1
    reads_in_place: bool = False

    def __init__(self, url: str, **options: Any) -> None:
        self._open(url, options)

    def _open(self, url: str, options: dict[str, Any]) -> None:
        _check_no_secrets(url, options)
        self._options = options
        try:
            self._fs, root = fsspec.core.url_to_fs(url, **self._filesystem_options())
        except (ImportError, ValueError) as error:
            extra = _EXTRAS.get(url.partition("://")[0])
            advice = f'; pip install "cerebros-spark[{extra}]"' if extra else ""
            raise ArgumentError(f"cannot open a store at {url!r}: {error}{advice}") from error
        self._root = str(root).rstrip("/")
        self.url = self._fs.unstrip_protocol(self._root)

    @staticmethod
    def create(prefix_path: str, **options: Any) -> Store:
        """Create the store for a path or URL.

        Args:
            prefix_path: A path, or a URL that fsspec supports. A path or ``file:///folder`` gives a
                LocalStore, ``s3://bucket/prefix`` an S3Store and ``hdfs://host:port/folder`` an
                HDFSStore.
            **options: Options for the file system, without credentials.

        Raises:
            ArgumentError: If no store supports the URL, or an option is invalid.
            StoreError: If the store cannot be opened.
        """
        scheme, is_url, _ = prefix_path.partition("://")
        return OPENERS.get(scheme if is_url else "", Store)(prefix_path, **options)

    def read(self, key: str) -> bytes:
        """Read the bytes of a key.

        Raises:
            StoreError: If the key does not exist (not retried), or cannot be read after retries.
        """
        path = self._path(key)
        return self._retry("read", key, lambda: bytes(self._fs.cat_file(path)))

    def digest(self, key: str) -> tuple[int, str]:
        """Return the size in bytes, and the hexadecimal SHA-256 digest, of a key's bytes."""
        path = self._path(key)

        def digest() -> tuple[int, str]:
            size, content = 0, hashlib.sha256()
            with self._fs.open(path, "rb") as file:
                while block := file.read(DIGEST_BLOCK):
                    size += len(block)
                    content.update(block)
            return size, content.hexdigest()

        return self._retry("read", key, digest)

    def fetch(self, key: str, target: Path) -> None:
        """Copy a key's bytes to the local file ``target``."""
        path = self._path(key)
        self._retry("copy", key, lambda: self._fs.get_file(path, str(target)))

    def write(self, key: str, data: bytes) -> None:
        """Write ``data`` as the bytes of a key, atomically; any old bytes are replaced."""
        path = self._path(key)
        self._retry("write", key, lambda: self._write(path, data))

    def append(self, key: str, data: bytes, at: int | None = None, instead_of: bytes = b"") -> None:
        """Append bytes to a key atomically.

        Locks and truncation (LocalStore) or conditional requests (S3Store) guarantee this. On other
        file systems, the store restores the old bytes after a failure, and two simultaneous
        appends may conflict.

        Args:
            key: The key, which is created if it is missing and ``at`` is None or 0.
            data: Bytes to add.
            at: Required length before the append, in bytes; 0 if the key must be missing or
                empty. If None, any length is allowed.
            instead_of: Partial bytes that a crash left during an earlier append. ``data`` replaces
                them if nothing else follows the first ``at`` bytes.

        Raises:
            StoreError: If the length is not ``at``, in which case nothing is added, or if the bytes
                cannot be added.
        """
        name = f"{key!r} in {self.url}"
        append = self._make_append(
            self._path(key), name=name, data=data, at=at, instead_of=instead_of
        )
        try:
            self._retry("append to", key, append)
        except StoreError as error:
            if append.left_after is None:
                raise
            raise StoreError(
                f"{error}; some of the new bytes may be left after the first {append.left_after}"
            ) from error

    def list(self, prefix: str) -> list[str]:
        """Return the sorted keys below a folder; the list is empty if the folder does not exist."""
        folder = self._path(prefix)
        start = len(self._root) + 1
        paths = self._retry("list", prefix, lambda: self._find(folder))
        return sorted(path[start:] for path in paths if not path.endswith(".tmp"))

    def delete(self, prefix: str) -> None:
        """Delete a key, or all keys below a folder; do nothing if it does not exist."""
        path = self._path(prefix)
        self._retry("delete", prefix, lambda: self._delete(path))

    def modified_at(self, key: str) -> datetime | None:
        """Return the time-zone-aware time of a key's last write; None if it is not stored."""
        path = self._path(key)

        def modified_at() -> datetime | None:
            try:
                time: datetime = self._fs.modified(path)
            except NotImplementedError:
                return None
            return time if time.tzinfo else time.replace(tzinfo=timezone.utc)

        return self._retry("inspect", key, modified_at)

    def address(self, key: str) -> str:
        """Return the URL of a key, for libraries that open URLs themselves."""
        return f"{self.url.rstrip('/')}/{key}"

    @property
    def filesystem(self) -> Any:
        """The fsspec file system, for libraries that accept one."""
        return self._fs

    def _filesystem_options(self) -> dict[str, Any]:
        return self._options

    # One attempt -------------------------------------------------------------------------

    def _make_append(self, path: str, **fields: Any) -> Append:
        return TailAppend(open_tail=lambda create: self._tail(path, create), **fields)

    def _write(self, path: str, data: bytes) -> None:
        temporary = f"{path}.{uuid.uuid4().hex}.tmp"
        self._fs.makedirs(posixpath.dirname(path), exist_ok=True)
        try:
            self._fs.pipe_file(temporary, data)
            self._fs.mv(temporary, path)
        except BaseException:
            with contextlib.suppress(OSError):  # the first error matters
                self._fs.rm_file(temporary)
            raise

    def _tail(self, path: str, create: bool) -> AbstractContextManager[Tail]:
        if create:
            self._fs.makedirs(posixpath.dirname(path), exist_ok=True)
        return contextlib.nullcontext(_FilesystemTail(self._fs, path, self._write))

    def _find(self, folder: str) -> Iterable[str]:
        self._fs.invalidate_cache(folder)
        return [str(path) for path in self._fs.find(folder)]

    def _delete(self, path: str) -> None:
        # Another process may delete files below it at the same time.
        for _ in range(DELETE_PASSES):
            self._fs.invalidate_cache(posixpath.dirname(path))
            try:
                self._fs.info(path)
            except (FileNotFoundError, NotADirectoryError):
                return
            with contextlib.suppress(FileNotFoundError):
                self._fs.rm(path, recursive=True)
        raise OSError(errno.EBUSY, "another process writes there", path)

    # Retries -----------------------------------------------------------------------------

    def _retry(self, action: str, key: str | None, attempt: Callable[[], _T]) -> _T:
        """Return the result of the first attempt that succeeds; raise StoreError if none does."""
        failure = f"cannot {action} " + ("" if key is None else f"{key!r} in ") + self.url

        def log(call: tenacity.RetryCallState) -> None:
            error = call.outcome.exception() if call.outcome else None
            number, wait = call.attempt_number + 1, call.upcoming_sleep
            logger.warning(
                "%s: %s; try %d of %d in %.1f s", failure, error, number, self.tries, wait
            )

        try:
            return call_with_retry(
                attempt,
                retry=tenacity.retry_if_exception(self._is_transient),
                stop=tenacity.stop_after_attempt(self.tries),
                wait=tenacity.wait_exponential(multiplier=self.first_wait, exp_base=4),
                before_sleep=log,
            )
        except StoreError:
            raise
        except (OSError, ValueError, NotImplementedError) as error:
            tries = f" ({self.tries} tries)" if self._is_transient(error) and self.tries > 1 else ""
            advice = self._advice(error)
            raise StoreError(
                f"{failure}{tries}: {error or type(error).__name__}"
                + (f"; {advice}" if advice else "")
            ) from error

    def _is_transient(self, error: BaseException) -> bool:
        return isinstance(error, OSError) and not isinstance(error, _PERMANENT)

    def _advice(self, error: BaseException) -> str | None:
        return _ADVICE.get(getattr(error, "errno", None) or 0)

    def _path(self, key: str) -> str:
        if key.startswith("/") or ".." in key.split("/"):
            raise ArgumentError(f"a key must be a relative path without '..', but got {key!r}")
        return f"{self._root}/{key}"

    # Unpickling a store sends no request, so errors occur when it is first used.

    def __getstate__(self) -> tuple[str, dict[str, Any]]:
        return self.url, self._options

    def __setstate__(self, arguments: tuple[str, dict[str, Any]]) -> None:
        self._open(*arguments)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.url!r})"


@dataclass(frozen=True)
class _FilesystemTail:
    """End of a file on any fsspec file system; truncation rewrites the file."""

    fs: Any
    path: str
    rewrite: Callable[[str, bytes], None]

    def length(self) -> int:
        self.fs.invalidate_cache(posixpath.dirname(self.path))
        try:
            return int(self.fs.info(self.path)["size"])
        except FileNotFoundError:
            return 0

    def read(self, start: int) -> bytes:
        return bytes(self.fs.cat_file(self.path))[start:]

    def cut(self, length: int) -> None:
        if self.length() == length:
            return
        if length == 0:
            self.fs.rm_file(self.path)
            return
        old = self.read(0)[:length]
        if len(old) < length:
            raise OSError(errno.EIO, f"{length - len(old)} bytes are lost", self.path)
        self.rewrite(self.path, old)

    def add(self, data: bytes) -> None:
        with self.fs.open(self.path, "ab") as file:
            file.write(data)


def write_checked(store: Store, key: str, data: bytes) -> None:
    """Write a small file, with the SHA-256 digest of ``data`` as its first line."""
    store.write(key, hashlib.sha256(data).hexdigest().encode() + b"\n" + data)


def read_checked(store: Store, key: str) -> bytes:
    """Read the data written by :func:`write_checked`.

    Raises:
        StoreError: If the file cannot be read, or was altered.
    """
    digest, _, data = store.read(key).partition(b"\n")
    if digest != hashlib.sha256(data).hexdigest().encode():
        raise StoreError(
            f"{key!r} in {store.url} is not what was written there: the file was altered or "
            "truncated"
        )
    return data


def _check_no_secrets(url: str, options: Mapping[str, Any]) -> None:
    """Raise ArgumentError, without showing values, if the URL or an option contains credentials."""
    if _PASSWORD_IN_URL.search(url):
        raise ArgumentError(f"the store's URL contains a password: {_SECRET_ADVICE}")
    for name, value in _flatten(options):
        last = name.rpartition(".")[2]
        if _SECRET.fullmatch(last) and value is not None and not isinstance(value, bool):
            raise ArgumentError(f"the option {name!r} of a store is a credential: {_SECRET_ADVICE}")
        if isinstance(value, str) and _PASSWORD_IN_URL.search(value):
            raise ArgumentError(
                f"the option {name!r} of a store contains a password: {_SECRET_ADVICE}"
            )


def _flatten(options: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in options.items():
        yield f"{prefix}{name}", value
        if isinstance(value, Mapping):
            yield from _flatten(value, f"{prefix}{name}.")
