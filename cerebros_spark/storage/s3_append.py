"""Appends in S3: an object is replaced on the condition that it is still the one read."""

from __future__ import annotations

import errno
import uuid
from typing import Any, NamedTuple

from fsspec.asyn import sync

from cerebros_spark.storage.append import Append

_RACES = 200
# Codes for an object that another process has replaced or deleted meanwhile.
_CHANGED = {"PreconditionFailed", "412", "ConditionalRequestConflict", "409", "NoSuchKey", "404"}


class S3Object(NamedTuple):
    """An object as it was last read or written.

    Attributes:
        data: Its bytes; empty if there is no such object.
        etag: S3's tag of that content; None if there is no such object.
        append_id: Identifier of the append that wrote it, if one did.
    """

    data: bytes
    etag: str | None
    append_id: str | None


class S3Error(OSError):
    """An error with S3's code."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


class ConditionalAppend(Append):
    """One append to an object of S3. Each call is a try; a failed one leaves nothing.

    The object's metadata has the identifier of the last append. So a retry recognizes a try whose
    response was lost, and nothing is added twice; unless, without ``at``, another process has
    appended in between.

    Args:
        filesystem: The s3fs file system.
        path: Path of the object there.
        last: The object of the last append, by path: it saves reading a journal each time.
        name: As in :class:`Append`, and so are the others.
        data: The bytes to add.
        at: Required length.
        instead_of: Bytes to replace.
    """

    def __init__(
        self,
        filesystem: Any,
        path: str,
        last: dict[str, S3Object],
        name: str,
        data: bytes,
        at: int | None,
        instead_of: bytes,
    ) -> None:
        super().__init__(name, data, at, instead_of)
        self._fs = filesystem
        self._path = path
        self._last = last
        self._id = uuid.uuid4().hex

    def __call__(self) -> None:
        """Add the bytes."""
        # Each lost race is an append of another process.
        for _ in range(_RACES):
            before = self._last.pop(self._path, None)
            if before is None or not self._fits(before.data):
                before = _read_object(self._fs, self._path)
            if before.append_id == self._id or self._replace(before):
                return
        raise OSError(errno.EBUSY, "other processes write there all the time", self._path)

    def _replace(self, before: S3Object) -> bool:
        """Put the object with the bytes added; return whether it was unchanged until then."""
        if not self._fits(before.data):
            raise self._length_error(len(before.data), self._at or 0)
        data = self._kept(before.data) + self._data
        condition = {"IfNoneMatch": "*"} if before.etag is None else {"IfMatch": before.etag}
        bucket, key, _ = self._fs.split_path(self._path)
        metadata = {"append": self._id}
        try:
            response = self._fs.call_s3(
                "put_object", Bucket=bucket, Key=key, Body=data, Metadata=metadata, **condition
            )
        except OSError as error:
            if error_code(error) in _CHANGED:
                return False
            raise
        self._last.clear()
        self._last[self._path] = S3Object(data, response["ETag"], self._id)
        return True

    def _kept(self, data: bytes) -> bytes:
        at = self._at or 0
        return data[:at] if self._instead_of and data[at:] == self._instead_of else data

    def _fits(self, data: bytes) -> bool:
        return self._at is None or len(self._kept(data)) == self._at


def _read_object(filesystem: Any, path: str) -> S3Object:
    bucket, key, _ = filesystem.split_path(path)
    try:
        response = filesystem.call_s3("get_object", Bucket=bucket, Key=key)
    except FileNotFoundError as error:
        if error_code(error) == "NoSuchBucket":
            raise
        return S3Object(b"", None, None)

    async def read() -> bytes:
        async with response["Body"] as body:
            return bytes(await body.read())

    data = sync(filesystem.loop, read)
    return S3Object(data, response["ETag"], response.get("Metadata", {}).get("append"))


def error_code(error: BaseException) -> str:
    """Return S3's code of an error that s3fs has raised; empty if S3 did not report it."""
    if isinstance(error, S3Error):
        return error.code
    response = getattr(error.__cause__ or error, "response", None) or {}
    return str(response.get("Error", {}).get("Code", ""))
