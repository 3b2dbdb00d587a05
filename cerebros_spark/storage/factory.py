"""Which kind of store opens which URL; ``Store.create`` looks it up here."""

from __future__ import annotations

from typing import Any

import fsspec

from cerebros_spark.storage.hdfs import HDFSStore
from cerebros_spark.storage.local import LocalStore
from cerebros_spark.storage.s3 import S3Store
from cerebros_spark.storage.store import OPENERS, Store


def open_path(path: str, **_: Any) -> Store:
    """Open a folder given by its path."""
    return LocalStore(path)


def open_file_url(url: str, **options: Any) -> Store:
    """Open a folder given by a ``file`` URL; one with options for fsspec is a plain store."""
    return Store(url, **options) if options else LocalStore(fsspec.core.strip_protocol(url))


OPENERS[""] = open_path
OPENERS["file"] = open_file_url
OPENERS["hdfs"] = HDFSStore
OPENERS["s3"] = OPENERS["s3a"] = S3Store
