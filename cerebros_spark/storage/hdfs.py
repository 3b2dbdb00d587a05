"""Stores in HDFS, accessed through Arrow and Hadoop's native library."""

from __future__ import annotations

import re
from datetime import datetime
from typing import Any

from cerebros_spark.core.errors import ArgumentError, StoreError
from cerebros_spark.storage.store import Store

_LIBRARY = (
    "HDFS is reached through Hadoop's libhdfs, on the driver and on every worker: set JAVA_HOME, "
    "HADOOP_HOME (with lib/native/libhdfs.so) and CLASSPATH=$(hadoop classpath --glob)"
)


class HDFSStore(Store):
    """Store in HDFS.

    Only one driver at a time may write to a run: HDFS allows one writer per file at a time, but
    another process may append between the length check and the append. A write that replaces a key
    first deletes the old bytes, so the key may briefly be missing for a reader.

    Args:
        url: ``hdfs://host:port/folder``, or ``hdfs:///folder`` for the namenode in Hadoop's
            configuration.
        **options: Options for ``pyarrow.fs.HadoopFileSystem``, such as ``user`` or ``replication``.

    Raises:
        ArgumentError: If the URL has no folder, or an option is a credential.
        StoreError: If Hadoop's library cannot be loaded, or the namenode cannot be reached.
    """

    def _open(self, url: str, options: dict[str, Any]) -> None:
        match = re.fullmatch(r"(hdfs://[^/]*)(/.*?)/*", url)
        if not match or not match[2].strip("/"):
            raise ArgumentError(
                f"the URL of an HDFS store must be hdfs://host:port/folder, but got {url!r}"
            )
        try:
            super()._open(url, options)
        except OSError as error:
            lacks_library = "libjvm" in str(error) or "libhdfs" in str(error)
            advice = _LIBRARY if lacks_library else "check the namenode's host, port and log"
            raise StoreError(f"cannot open {url}: {error}; {advice}") from error
        self.url = f"{match[1]}{self._root}"  # fsspec's URL lacks the namenode

    def modified_at(self, key: str) -> datetime | None:
        """Return the time of the last write to a key, in UTC; None if HDFS does not report it."""
        path = self._path(key)
        return self._retry("inspect", key, lambda: self._fs.info(path)["mtime"])
