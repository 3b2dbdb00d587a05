"""Appending where nothing can be appended: an object is replaced if it is still the one read."""

from __future__ import annotations

import errno
import uuid
from typing import Any, NamedTuple

from fsspec.asyn import sync

from cerebros_spark.storage.append import other_length

_RACES = 200
# Somebody else has put, or removed, the object meanwhile.
_CHANGED = {"PreconditionFailed", "412", "ConditionalRequestConflict", "409", "NoSuchKey", "404"}


class Held(NamedTuple):
    """An object as it was last seen.

    Attributes:
        data: Its bytes; none if there is no such object.
        etag: What S3 calls that content; None if there is no such object.
        mark: The append that wrote it, if one did.
    """

    data: bytes
    etag: str | None
    mark: str | None


class LastSeen:
    """The one object that a process has appended to last, as it left it."""

    def __init__(self) -> None:
        self._last: tuple[str, Held] | None = None

    def take(self, path: str) -> Held | None:
        """The object at that path, if it is the one; it is no longer held here."""
        last, self._last = self._last, None
        return last[1] if last and last[0] == path else None

    def put(self, path: str, held: Held) -> None:
        """Holds an object instead of the one before."""
        self._last = (path, held)


class S3Error(OSError):
    """What went wrong, with the code that S3 has for it."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


class ConditionalAppend:
    """One append to an object of S3. Each call is a try.

    Every append has a mark, which is put with the object. So a try whose answer was lost is known
    by its mark when it is made again, and nothing is added twice; unless, without ``at``, somebody
    else has appended in between.

    Args:
        filesystem: s3fs' file system.
        path: The object's path there.
        name: How errors call it.
        data: The bytes to add.
        at: How many bytes there must be before; None for any number.
        instead_of: Bytes after those ``at`` that the data takes the place of, if they are there.
        seen: Where objects are held as an append left them, which spares reading them.

    Attributes:
        left_after: None: nothing is ever left half done.
    """

    left_after: int | None = None

    def __init__(
        self,
        filesystem: Any,
        path: str,
        name: str,
        data: bytes,
        at: int | None,
        instead_of: bytes,
        seen: LastSeen,
    ) -> None:
        self._fs = filesystem
        self._path = path
        self._name = name
        self._data = data
        self._at = at
        self._instead_of = instead_of
        self._mark = uuid.uuid4().hex
        self._seen = seen

    def __call__(self) -> None:
        """Adds the bytes.

        Raises:
            StoreError: If there are more or fewer bytes than there must be.
            OSError: If they can't be added.
        """
        # Each lost race is an append that somebody else has won.
        for _ in range(_RACES):
            before = self._seen.take(self._path)
            if before is None or not self._fits(before.data):
                before = read_whole(self._fs, self._path)
            if before.mark == self._mark or self._put(before):
                return
        raise OSError(errno.EBUSY, "other processes write there all the time", self._path)

    def _put(self, before: Held) -> bool:
        """Puts the object with the bytes added; whether it was still as before."""
        if not self._fits(before.data):
            raise other_length(self._name, len(before.data), self._at or 0)
        whole = self._kept(before.data) + self._data
        still = {"IfNoneMatch": "*"} if before.etag is None else {"IfMatch": before.etag}
        bucket, key, _ = self._fs.split_path(self._path)
        marked = {"Metadata": {"append": self._mark}}
        try:
            answer = self._fs.call_s3(
                "put_object", Bucket=bucket, Key=key, Body=whole, **marked, **still
            )
        except OSError as error:
            if error_code(error) in _CHANGED:
                return False
            raise
        self._seen.put(self._path, Held(whole, answer["ETag"], self._mark))
        return True

    def _kept(self, data: bytes) -> bytes:
        """The bytes that stay."""
        at = self._at or 0
        return data[:at] if self._instead_of and data[at:] == self._instead_of else data

    def _fits(self, data: bytes) -> bool:
        """Whether as many bytes stay as must be there."""
        return self._at is None or len(self._kept(data)) == self._at


def read_whole(filesystem: Any, path: str) -> Held:
    """An object as it is in the bucket.

    Raises:
        OSError: If it can't be read, or the bucket is not there.
    """

    async def read() -> Held:
        bucket, key, _ = filesystem.split_path(path)
        answer = await filesystem._call_s3("get_object", Bucket=bucket, Key=key)
        async with answer["Body"] as body:
            data = bytes(await body.read())
        return Held(data, answer["ETag"], answer.get("Metadata", {}).get("append"))

    try:
        held: Held = sync(filesystem.loop, read)
    except FileNotFoundError as error:
        if error_code(error) == "NoSuchBucket":
            raise
        return Held(b"", None, None)
    return held


def error_code(error: BaseException) -> str:
    """What S3 calls an error that s3fs has raised; empty if it was not S3 that said it."""
    if isinstance(error, S3Error):
        return error.code
    response = getattr(error.__cause__ or error, "response", None) or {}
    return str(response.get("Error", {}).get("Code", ""))
