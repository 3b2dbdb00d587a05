"""A shard copied to the worker's own disk, where its store is far away."""

from __future__ import annotations

import shutil
import tempfile
import weakref
from pathlib import Path

from cerebros_spark.core.errors import StoreError
from cerebros_spark.data import catalog
from cerebros_spark.data.manifest import Shard
from cerebros_spark.storage.local import LocalStore
from cerebros_spark.storage.store import Store


class LocalCopy(LocalStore):
    """A shard's files in a temporary folder, which goes when nobody has this any more.

    A shard that does not fit the memory is read in every pass, and Petastorm asks for a file in
    many small pieces: from the disk both are quick, and the store is asked once.

    Args:
        store: Where the shard is.
        shard: The shard.

    Raises:
        StoreError: If a file can't be read, or there is no room for it here.
    """

    def __init__(self, store: Store, shard: Shard) -> None:
        folder = tempfile.mkdtemp(prefix="cerebros-shard-")
        weakref.finalize(self, shutil.rmtree, folder, ignore_errors=True)
        super().__init__(folder)
        for name in catalog.file_names(store, shard.key):
            target = Path(folder, shard.key, name)
            try:
                target.parent.mkdir(parents=True, exist_ok=True)
                store.fetch(f"{shard.key}/{name}", target)
            except OSError as error:
                raise StoreError(
                    f"the shard {shard.key!r} can't be copied to {folder}: {error}; if there is "
                    "too little room, set TMPDIR on the workers to a larger disk"
                ) from error
