"""Stores in S3 buckets, or in other services that implement the S3 protocol."""

from __future__ import annotations

import errno
import re
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, NamedTuple, TypeVar

from fsspec.asyn import sync

from cerebros_spark.core.errors import ArgumentError
from cerebros_spark.storage.append import Append
from cerebros_spark.storage.store import DELETE_PASSES, Store

_T = TypeVar("_T")
_KEYS_PER_REQUEST = 1000
# Objects of more than twice this size are sent in parts, which S3 requires to be at least 5 MiB.
_PART_BYTES = 2**24
_RACES = 200
# Error codes that mean that another process has replaced or deleted the object.
_CHANGED = {"PreconditionFailed", "412", "ConditionalRequestConflict", "409", "NoSuchKey", "404"}

_PERMISSIONS = (
    "the credentials of this process need s3:ListBucket on the bucket, and s3:GetObject, "
    "s3:PutObject, s3:DeleteObject and s3:AbortMultipartUpload below the prefix"
)
_CREDENTIALS = (
    "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY in the environment, a profile, or the machine's "
    "role; workers need theirs too"
)
_INVALID = f"the credentials of this process are invalid or expired there: {_CREDENTIALS}"
_REGION = "set AWS_DEFAULT_REGION to the bucket's region"
# Advice for S3's codes of permanent errors.
_ADVICE = {
    "NoSuchBucket": "create the bucket, or correct its name or AWS_ENDPOINT_URL",
    "InvalidBucketName": "correct the bucket's name",
    "AccessDenied": _PERMISSIONS,
    "AllAccessDisabled": _PERMISSIONS,
    "403": _PERMISSIONS,
    "InvalidAccessKeyId": _INVALID,
    "SignatureDoesNotMatch": _INVALID,
    "ExpiredToken": _INVALID,
    "InvalidToken": _INVALID,
    "NoCredentials": f"give this process credentials: {_CREDENTIALS}; or anon=True",
    "PermanentRedirect": _REGION,
    "AuthorizationHeaderMalformed": _REGION,
    "NotImplemented": "this service lacks a request that the store needs",
}


class S3Store(Store):
    """Store in an S3 bucket.

    A write is one request, or a multipart upload that takes effect when it is complete. S3 has no
    append: the object is replaced on the condition that it has not changed since it was read. If
    two processes append and both require the same current length (see :meth:`.Store.append`), only
    one succeeds; if neither requires a length, both succeed. On a service without conditional
    requests (``If-Match``), do not resume a run from two drivers.

    The driver and each worker find their credentials where the AWS tools do (environment variables,
    profiles, the instance's IAM role); options that are credentials are rejected.

    Args:
        url: Bucket and prefix, ``s3://bucket/prefix``. The bucket must exist.
        **options: Options for ``s3fs.S3FileSystem``, such as ``endpoint_url`` or ``anon``.

    Raises:
        ArgumentError: If s3fs is missing, the URL has no bucket, or an option is a credential.
        StoreError: If the bucket does not exist or cannot be listed.
    """

    tries = 5  # throttling takes long to end: waits of 8 s in total

    def __init__(self, url: str, **options: Any) -> None:
        self._open(url, options)
        self._retry("open", None, self._list_bucket)

    def _open(self, url: str, options: dict[str, Any]) -> None:
        url = re.sub(r"^s3[an]://", "s3://", url)
        if not re.match(r"s3://[^/]", url):
            raise ArgumentError(
                f"the URL of an S3 store must be s3://bucket/prefix, but got {url!r}"
            )
        super()._open(url, options)
        self._fs.retries = 1
        self._last_append: dict[str, _Object] = {}

    def _filesystem_options(self) -> dict[str, Any]:
        # The store retries: nested retries would take minutes.
        retries = {"retries": {"total_max_attempts": 2, "mode": "standard"}}
        config = {**retries, **self._options.get("config_kwargs", {})}
        # The instance is not shared with other users of s3fs: it does not cache listings or retry.
        own = {"use_listings_cache": False, "skip_instance_cache": True}
        return {**own, **self._options, "config_kwargs": config}

    def _list_bucket(self) -> None:
        bucket, prefix, _ = self._fs.split_path(self._root)
        self._fs.call_s3("list_objects_v2", Bucket=bucket, Prefix=prefix, MaxKeys=1)

    def _write(self, path: str, data: bytes) -> None:
        self._fs.pipe_file(path, data, chunksize=_PART_BYTES)

    def _make_append(self, path: str, **fields: Any) -> Append:
        return _ObjectAppend(filesystem=self._fs, path=path, last=self._last_append, **fields)

    def _delete(self, path: str) -> None:
        for _ in range(DELETE_PASSES):
            paths = list(self._find(path))
            if not paths:
                return
            for start in range(0, len(paths), _KEYS_PER_REQUEST):
                self._delete_objects(paths[start : start + _KEYS_PER_REQUEST])
        raise OSError(errno.EBUSY, "another process writes there", path)

    def _delete_objects(self, paths: list[str]) -> None:
        # The method of s3fs ignores objects that could not be deleted.
        parts = [self._fs.split_path(path)[:2] for path in paths]
        objects = {"Objects": [{"Key": key} for _, key in parts], "Quiet": True}
        response = self._fs.call_s3("delete_objects", Bucket=parts[0][0], Delete=objects)
        for error in response.get("Errors", []):
            raise _S3Error(error["Code"], f"{error.get('Message')} ({error['Key']!r})")

    def _retry(self, action: str, key: str | None, attempt: Callable[[], _T]) -> _T:
        from botocore.exceptions import BotoCoreError, NoCredentialsError, PartialCredentialsError

        def convert_errors() -> _T:
            try:
                return attempt()
            except (NoCredentialsError, PartialCredentialsError) as error:
                raise _S3Error("NoCredentials", str(error)) from error
            except BotoCoreError as error:
                raise _S3Error("", str(error)) from error

        return super()._retry(action, key, convert_errors)

    def _is_transient(self, error: BaseException) -> bool:
        return super()._is_transient(error) and _get_error_code(error) not in _ADVICE

    def _advice(self, error: BaseException) -> str | None:
        code = _get_error_code(error)
        if not code and isinstance(error, PermissionError):
            code = "AccessDenied"
        return _ADVICE.get(code) or super()._advice(error)


class _S3Error(OSError):
    """Error with an S3 error code."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


def _get_error_code(error: BaseException) -> str:
    """Return the S3 error code of an s3fs exception; empty if S3 did not report the error."""
    if isinstance(error, _S3Error):
        return error.code
    response = getattr(error.__cause__ or error, "response", None) or {}
    return str(response.get("Error", {}).get("Code", ""))


class _Object(NamedTuple):
    """S3 object as it was last read or written.

    Attributes:
        data: Content of the object; empty if it does not exist.
        etag: Entity tag; None if the object does not exist.
        append_id: Identifier of the last append; None if the object has none.
    """

    data: bytes
    etag: str | None
    append_id: str | None


@dataclass(kw_only=True)
class _ObjectAppend(Append):
    """Append to an S3 object; each call is one attempt, and a failed attempt changes nothing.

    The object's metadata contains the identifier of the last append. If the response to an attempt
    was lost, a retry therefore detects that the bytes were added, and does not add them twice. It
    cannot detect this if ``at`` is None and another process has appended in between.

    Attributes:
        filesystem: The s3fs file system.
        path: Path of the object in ``filesystem``.
        last: Object that the last append wrote, by path; saves reading the object for each append.
        id: Identifier of this append.
    """

    filesystem: Any
    path: str
    last: dict[str, _Object]
    id: str = field(default_factory=lambda: uuid.uuid4().hex)

    def __call__(self) -> None:
        """Append the bytes; raise StoreError if the object did not have the required length."""
        for _ in range(_RACES):  # each lost race is an append of another process
            before = self.last.pop(self.path, None)
            if before is None or not self._fits(before.data):
                before = self._read()
            if before.append_id == self.id or self._replace(before):
                return
        raise OSError(errno.EBUSY, "other processes constantly write there", self.path)

    def _read(self) -> _Object:
        bucket, key, _ = self.filesystem.split_path(self.path)
        try:
            response = self.filesystem.call_s3("get_object", Bucket=bucket, Key=key)
        except FileNotFoundError as error:
            if _get_error_code(error) == "NoSuchBucket":
                raise
            return _Object(b"", None, None)

        async def read() -> bytes:
            async with response["Body"] as body:
                return bytes(await body.read())

        data = sync(self.filesystem.loop, read)
        return _Object(data, response["ETag"], response.get("Metadata", {}).get("append"))

    def _replace(self, before: _Object) -> bool:
        """Replace the object with one that has the added bytes; return False if it has changed."""
        if not self._fits(before.data):
            raise self.length_error(len(before.data), self.at or 0)
        data = self._kept(before.data) + self.data
        condition = {"IfNoneMatch": "*"} if before.etag is None else {"IfMatch": before.etag}
        bucket, key, _ = self.filesystem.split_path(self.path)
        target = {"Bucket": bucket, "Key": key, "Metadata": {"append": self.id}}
        try:
            response = self.filesystem.call_s3("put_object", Body=data, **target, **condition)
        except OSError as error:
            if _get_error_code(error) in _CHANGED:
                return False
            raise
        self.last.clear()
        self.last[self.path] = _Object(data, response["ETag"], self.id)
        return True

    def _kept(self, data: bytes) -> bytes:
        at = self.at or 0
        return data[:at] if self.instead_of and data[at:] == self.instead_of else data

    def _fits(self, data: bytes) -> bool:
        return self.at is None or len(self._kept(data)) == self.at
