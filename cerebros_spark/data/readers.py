"""Choice of the library that reads shards: Petastorm, or pyarrow alone.

Both give the same rows in the same order. Petastorm is the default if it can be imported.
"""

from __future__ import annotations

import importlib
import logging
import os
import threading
from collections.abc import Iterator, Sequence
from typing import Protocol, cast

import numpy as np

from cerebros_spark.core.errors import ArgumentError
from cerebros_spark.data.manifest import Shard
from cerebros_spark.storage.store import Store

logger = logging.getLogger(__name__)

ENVIRONMENT = "CEREBROS_SPARK_READER"
"""Environment variable that names the reader to use if none is passed."""

_MODULES = {
    "petastorm": "cerebros_spark.data.reader_petastorm",
    "arrow": "cerebros_spark.data.reader_arrow",
}
_lock = threading.RLock()
_default: str | None = None
_logged: set[str] = set()


class Reader(Protocol):
    """A module that reads the row groups of shards."""

    def get_version(self) -> str:
        """Return the reading library's name and version; raise ImportError if it is missing."""

    def read_row_groups(
        self, store: Store, shard: Shard, names: Sequence[str], seed: int | None
    ) -> Iterator[dict[str, np.ndarray]]:
        """Yield the shard's row groups.

        Args:
            store: Store of the shard.
            shard: The shard.
            names: Columns to read, by their names in the files.
            seed: Positive seed that determines the row group order. If None, row groups are in
                file order.

        Yields:
            For each row group, arrays by column name, of shape ``(rows,)`` for numbers and
            ``(rows, length)`` for arrays.

        Raises:
            DataError: If the shard lacks columns, or its number of rows differs from the manifest.
            StoreError: If the shard can't be read.
        """

    def largest_row_group(self, store: Store, shard: Shard, names: Sequence[str]) -> int:
        """Return the number of rows in the largest row group of the shard.

        The arguments and errors are those of :meth:`read_row_groups`.
        """


def check_reader(name: str | None, source: str = "reader") -> str | None:
    """Return ``name`` if it is None or a known reader.

    Otherwise raise an ArgumentError, whose message calls the argument ``source``.
    """
    if name is not None and name not in _MODULES:
        known = " or ".join(repr(each) for each in _MODULES)
        raise ArgumentError(f"{source} must be {known}, but got {name!r}")
    return name


def choose_reader(name: str | None = None) -> str:
    """Return the name of the reader to use.

    Args:
        name: The requested reader, ``"petastorm"`` or ``"arrow"``. If None, the environment
            variable ``CEREBROS_SPARK_READER`` names it; if that is not set either, Petastorm is
            used if it can be imported, otherwise pyarrow alone.

    Raises:
        ArgumentError: If there is no such reader, or its library cannot be imported.
    """
    wanted = get_wanted_reader(name)
    if wanted is None:
        return _find_default()
    _find_version(wanted)
    return wanted


def get_wanted_reader(name: str | None = None) -> str | None:
    """Return the reader that ``name`` or the environment variable names; None if neither does.

    Raises:
        ArgumentError: If there is no such reader.
    """
    return check_reader(name) or check_reader(os.environ.get(ENVIRONMENT) or None, ENVIRONMENT)


def open_reader(name: str | None = None) -> Reader:
    """Return the reader that :func:`choose_reader` chooses for ``name``.

    Raises:
        ArgumentError: If there is no such reader, or its library cannot be imported.
    """
    name = choose_reader(name)
    version = _find_version(name)
    with _lock:
        if name not in _logged:
            _logged.add(name)
            logger.info("reading shards with %s", version)
    return _import_reader(name)


def _find_version(name: str) -> str:
    """Return the name and version of a reader's library; raise ArgumentError if it is missing."""
    try:
        return _import_reader(name).get_version()
    except Exception as error:  # what an unfit version of a library raises is not known
        raise ArgumentError(
            f"cannot read shards with {name!r}: {error}; install it, or use reader='arrow'"
        ) from error


def _find_default() -> str:
    global _default
    with _lock:
        if _default is None:
            try:
                _import_reader("petastorm").get_version()
                _default = "petastorm"
            except Exception as error:
                logger.warning("cannot import Petastorm (%s): pyarrow alone reads shards", error)
                _default = "arrow"
        return _default


def _import_reader(name: str) -> Reader:
    return cast(Reader, importlib.import_module(_MODULES[name]))
