"""Stores in buckets of S3, and of whatever else speaks its protocol."""

from __future__ import annotations

import errno
import re
from collections.abc import Callable
from typing import Any, TypeVar

from cerebros_spark.core.errors import ArgumentError
from cerebros_spark.storage.append import Attempts
from cerebros_spark.storage.s3_append import ConditionalAppend, LastSeen, S3Error, error_code
from cerebros_spark.storage.store import DELETIONS, Store

_T = TypeVar("_T")
_DELETED_AT_ONCE = 1000
# Above twice this size an object is sent in parts. S3 takes none below 5 MiB.
_PART_BYTES = 2**24

_RIGHTS = (
    "the credentials of this process need s3:ListBucket on the bucket, and s3:GetObject, "
    "s3:PutObject, s3:DeleteObject and s3:AbortMultipartUpload below the prefix"
)
_CREDENTIALS = (
    "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY in the environment, a profile, or the machine's "
    "role; workers need theirs too"
)
_INVALID = (
    f"the credentials that this process has are not valid there, or no longer: {_CREDENTIALS}"
)
_REGION = "set AWS_DEFAULT_REGION to the bucket's region"
# What S3 says that stays so however often one asks, and what to do about it.
_ADVICE = {
    "NoSuchBucket": "make the bucket, or correct its name or AWS_ENDPOINT_URL",
    "InvalidBucketName": "correct the bucket's name",
    "AccessDenied": _RIGHTS,
    "AllAccessDisabled": _RIGHTS,
    "403": _RIGHTS,
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
    """A store in a bucket of S3.

    A write is one request that puts an object whole, or several of parts that count when the last
    one says so. S3 can't append: the object is written anew, on the condition that it is still the
    one that was read, so that of two processes that append at a length one fails, and without a
    length neither is lost. Services without conditional requests (``If-Match``) are no place for a
    run that two drivers might go on with.

    Credentials come from where AWS' own tools find them (environment variables, profiles, the
    machine's role), on the driver and on each worker; options that hold some are refused.

    Args:
        url: Bucket and prefix, ``s3://bucket/prefix``. The bucket must be there.
        **options: Options for ``s3fs.S3FileSystem``, such as ``endpoint_url`` or ``anon``.

    Raises:
        ArgumentError: If s3fs is missing, the URL has no bucket, or an option is a credential.
        StoreError: If the bucket is not there or can't be looked into.
    """

    # What S3 answers when it is busy takes longer to pass than a full disk: 8 s in all.
    tries = 5
    # Three times as quick by way of the disk (docs/stores.md).
    reads_in_place = False

    def __init__(self, url: str, **options: Any) -> None:
        self._open(url, options)
        self._tried("opened", "", self._look)

    def _open(self, url: str, options: dict[str, Any]) -> None:
        url = re.sub(r"^s3[an]://", "s3://", url)
        if not re.match(r"s3://[^/]", url):
            raise ArgumentError(f"an S3 store is at s3://bucket/prefix, but got {url!r}")
        super()._open(url, options)
        self._fs.retries = 1
        self._held = LastSeen()

    def _filesystem_options(self) -> dict[str, Any]:
        given = dict(self._options)
        # What fails is tried again by the store: tries within tries take minutes.
        retries = {"retries": {"total_max_attempts": 2, "mode": "standard"}}
        given["config_kwargs"] = {**retries, **given.get("config_kwargs", {})}
        # Not shared with others, for listings are never kept and tries are counted otherwise.
        return {"use_listings_cache": False, "skip_instance_cache": True, **given}

    def _look(self) -> None:
        bucket, prefix, _ = self._fs.split_path(self._root)
        self._fs.call_s3("list_objects_v2", Bucket=bucket, Prefix=prefix, MaxKeys=1)

    # One try -----------------------------------------------------------------------------

    def _write(self, path: str, data: bytes) -> None:
        self._fs.pipe_file(path, data, chunksize=_PART_BYTES)

    def _append(self, key: str, data: bytes, at: int | None, instead_of: bytes) -> Attempts:
        # The journal is appended to again and again: what it held is kept, not read each time.
        path, name = self._path(key), f"{key!r} in {self.url}"
        return ConditionalAppend(self._fs, path, name, data, at, instead_of, self._held)

    def _delete(self, path: str) -> None:
        for _ in range(DELETIONS):
            paths = list(self._find(path))
            if not paths:
                return
            for start in range(0, len(paths), _DELETED_AT_ONCE):
                self._delete_all(paths[start : start + _DELETED_AT_ONCE])
        raise OSError(errno.EBUSY, "another process writes there", path)

    def _delete_all(self, paths: list[str]) -> None:
        # s3fs' own way leaves out what could not be removed.
        split = [self._fs.split_path(path)[:2] for path in paths]
        answer = self._fs.call_s3(
            "delete_objects",
            Bucket=split[0][0],
            Delete={"Objects": [{"Key": key} for _, key in split], "Quiet": True},
        )
        for problem in answer.get("Errors", []):
            raise S3Error(problem["Code"], f"{problem.get('Message')} ({problem['Key']!r})")

    # What S3 says ------------------------------------------------------------------------

    def _tried(self, done: str, key: str, attempt: Callable[[], _T]) -> _T:
        from botocore.exceptions import BotoCoreError, NoCredentialsError, PartialCredentialsError

        def told() -> _T:
            try:
                return attempt()
            except (NoCredentialsError, PartialCredentialsError) as error:
                raise S3Error("NoCredentials", str(error)) from error
            except BotoCoreError as error:
                raise S3Error("", str(error)) from error

        return super()._tried(done, key, told)

    def _may_pass(self, error: BaseException) -> bool:
        return super()._may_pass(error) and error_code(error) not in _ADVICE

    def _advice(self, error: BaseException) -> str | None:
        code = error_code(error)
        if not code and isinstance(error, PermissionError):
            code = "AccessDenied"
        return _ADVICE.get(code) or super()._advice(error)
