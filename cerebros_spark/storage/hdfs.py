"""Stores in HDFS, through Arrow and Hadoop's native library."""

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
    """A store in HDFS.

    Appends are HDFS' own. It lets one writer at a time append to a file, but tells nobody who
    looked at its length before that another has come in between: one driver at a time may write to
    a run. A write that replaces a key removes the old bytes just before the new ones take their
    place, so that a reader may for an instant find nothing.

    Args:
        url: ``hdfs://host:port/folder``, or ``hdfs:///folder`` for the namenode that Hadoop's
            configuration names.
        **options: Options for ``pyarrow.fs.HadoopFileSystem``, such as ``user`` or ``replication``.

    Raises:
        ArgumentError: If the URL has no folder, or an option is a credential.
        StoreError: If Hadoop's library or the namenode can't be reached; the message says what to
            do.
    """

    reads_in_place = False

    def _open(self, url: str, options: dict[str, Any]) -> None:
        found = re.fullmatch(r"(hdfs://[^/]*)(/.*?)/*", url)
        if not found or not found[2].strip("/"):
            raise ArgumentError(f"an HDFS store is at hdfs://host:port/folder, but got {url!r}")
        try:
            super()._open(url, options)
        except OSError as error:
            lacks = "libjvm" in str(error) or "libhdfs" in str(error)
            advice = _LIBRARY if lacks else "check the namenode's host and port, and its log"
            raise StoreError(f"the store {url} can't be opened: {error}; {advice}") from error
        # fsspec's own would leave out the namenode.
        self.url = f"{found[1]}{self._root}"

    def changed(self, key: str) -> datetime | None:
        """When a key's bytes were last written."""
        path = self._path(key)
        return self._tried("looked at in", key, lambda: self._fs.info(path)["mtime"])
