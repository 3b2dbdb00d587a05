"""Registration of the store class for each URL scheme, for ``Store.create``."""

from __future__ import annotations

from typing import Any

import fsspec

from cerebros_spark.storage.hdfs import HDFSStore
from cerebros_spark.storage.local import LocalStore
from cerebros_spark.storage.s3 import S3Store
from cerebros_spark.storage.store import OPENERS, Store


def open_path(path: str, **_: Any) -> Store:
    """Open the folder at a path as a LocalStore; options are ignored."""
    return LocalStore(path)


def open_file_url(url: str, **options: Any) -> Store:
    """Open a ``file`` URL as a LocalStore, or as a plain Store if there are fsspec options."""
    return Store(url, **options) if options else LocalStore(fsspec.core.strip_protocol(url))


OPENERS[""] = open_path
OPENERS["file"] = open_file_url
OPENERS["hdfs"] = HDFSStore
OPENERS["s3"] = OPENERS["s3a"] = S3Store
