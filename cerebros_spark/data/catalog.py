"""Prepared data in a store: found again, whole or not there, and what was written.

Each preparation writes its shards to a folder of its own below the data's. The manifest, written
last, says which of them counts. So two processes that prepare the same data don't meet.
"""

from __future__ import annotations

import contextlib
import logging
import uuid
from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta, timezone

from cerebros_spark.core.errors import StoreError
from cerebros_spark.data.manifest import (
    Column,
    Manifest,
    OtherFormatError,
    Shard,
    manifest_key,
)
from cerebros_spark.storage.store import Store

logger = logging.getLogger("cerebros_spark")

ABANDONED = timedelta(days=1)
"""A preparation that has written nothing for so long is not going on."""


def find(store: Store, name: str) -> Manifest | None:
    """The manifest of finished data of that fingerprint, or None.

    A manifest that can't be used counts as none: the data is there to be prepared again.

    Raises:
        StoreError: If the store can't be read.
    """
    manifest = _usable(store, name)
    if manifest is None:
        return None
    _remove_abandoned(store, name, manifest)
    logger.info("prepared data %s is in the store already: used as it is", name)
    return manifest


def every(store: Store) -> list[Manifest]:
    """The manifests of all prepared data in a store; those of other formats are left out.

    Raises:
        StoreError: If one can't be read or was altered; the message says which.
    """
    keys = [key for key in store.list("data") if key.endswith("/manifest.json")]
    try:
        loaded = [_load(store, key) for key in keys if key.count("/") == 2]
    except ValueError as error:
        raise StoreError(f"{error}: remove its folder and prepare the data again") from error
    return [manifest for manifest in loaded if manifest is not None]


@contextlib.contextmanager
def writing(store: Store, name: str) -> Iterator[str]:
    """Keeps prepared data whole or absent.

    What preparations that ended long ago left unfinished is removed first; if the block fails,
    what it wrote is removed too.

    Args:
        store: Where the data is written.
        name: The fingerprint.

    Yields:
        The key of a new folder for the shards.
    """
    _remove_abandoned(store, name, None)
    folder = f"{_folder(name)}/{uuid.uuid4().hex[:16]}"
    try:
        yield folder
    except BaseException:
        _remove(store, folder)
        raise


def finish(
    store: Store,
    folder: str,
    name: str,
    columns: Sequence[Column],
    shards: tuple[tuple[Shard, ...], tuple[Shard, ...]],
    seed: int,
) -> Manifest:
    """Writes the manifest, which makes the data count.

    Args:
        store: Where the shards are.
        folder: The folder that :func:`writing` gave.
        name: The fingerprint.
        columns: The columns with their statistics.
        shards: Training and validation shards.
        seed: Seed of the shuffle.

    Returns:
        The manifest; if another process has finished the same data meanwhile, its manifest.
    """
    other = _usable(store, name)
    if other is not None:
        logger.info("another process has prepared %s meanwhile: its data is used", name)
        _remove(store, folder)
        return other
    manifest = Manifest(name, tuple(columns), *shards, seed)
    store.write(manifest_key(name), manifest.to_json().encode())
    logger.info(
        "prepared %s training and %s validation rows in %d partitions: %s",
        f"{manifest.train_rows:,}",
        f"{manifest.validation_rows:,}",
        manifest.partitions,
        name,
    )
    return manifest


def check_seen(store: Store, shard: Shard) -> None:
    """Makes sure that what executors wrote is seen from here.

    Args:
        store: Where the shard is.
        shard: The shard.

    Raises:
        StoreError: If it is not, or can't be read.
    """
    there = file_names(store, shard.key)
    if any(file.name not in there for file in shard.files):
        raise StoreError(
            f"no file of the shard {shard.key!r} is seen in {store.url}: give a store that the "
            "driver and every worker share, at the same path"
        )


def check_files(store: Store, shard: Shard, copy: Store | None = None) -> None:
    """Makes sure that a shard's files are those that were written, to the byte.

    Args:
        store: Where the shard is.
        shard: The shard.
        copy: Where its files are read from, if they were copied there.

    Raises:
        StoreError: If not; the message names the file and says what to do.
    """
    if not shard.files:
        return
    wanted = {file.name: file for file in shard.files}
    there = file_names(store, shard.key)
    for name in sorted(wanted.keys() - set(there)):
        raise _damaged(store, shard, name, "is missing")
    for name in there:
        if name not in wanted:
            raise _damaged(store, shard, name, "was not written with this data")
        size, digest = (copy or store).digest(f"{shard.key}/{name}")
        if size != wanted[name].size:
            problem = f"has {size:,} bytes, but {wanted[name].size:,} were written"
            raise _damaged(store, shard, name, problem)
        if digest != wanted[name].sha256:
            raise _damaged(store, shard, name, "was altered: its sha256 is another")


def file_names(store: Store, key: str) -> list[str]:
    """A shard's files below its key, without those that Spark and readers of Parquet hide."""
    names = [file[len(key) + 1 :] for file in store.list(key)]
    return [name for name in names if not name.rpartition("/")[2].startswith((".", "_"))]


def _damaged(store: Store, shard: Shard, name: str, problem: str) -> StoreError:
    folder = "/".join(shard.key.split("/")[:2])
    return StoreError(
        f"the file {store.address(f'{shard.key}/{name}')} of the prepared data {problem}; remove "
        f"the folder {store.address(folder)} and run again: the data is then prepared anew"
    )


def _load(store: Store, key: str) -> Manifest | None:
    """A manifest, or None if it has another format; raises ValueError if it was altered."""
    try:
        return Manifest.from_json(store.read(key).decode())
    except OtherFormatError as error:
        logger.info("the manifest %r is left aside: %s; the data is prepared again", key, error)
        return None
    except ValueError as error:
        raise ValueError(f"the manifest {store.address(key)} can't be used: {error}") from error


def _usable(store: Store, name: str) -> Manifest | None:
    key = manifest_key(name)
    if not store.list(key):
        return None
    try:
        return _load(store, key)
    except ValueError as error:
        logger.warning("%s: the data is prepared again", error)
        return None


def _folder(name: str) -> str:
    """The key of the folder of the data of that fingerprint."""
    return manifest_key(name).rpartition("/")[0]


def _remove_abandoned(store: Store, name: str, manifest: Manifest | None) -> None:
    """Removes folders that the manifest does not name and nobody has written to for long."""
    start = f"{_folder(name)}/"
    folders: dict[str, list[str]] = {}
    for key in store.list(_folder(name)):
        first, below, _ = key[len(start) :].partition("/")
        if below:
            folders.setdefault(start + first, []).append(key)
    shards = (*manifest.train, *manifest.validation) if manifest else ()
    needed = {"/".join(shard.key.split("/")[:3]) for shard in shards}
    for folder in sorted(folders.keys() - needed):
        if _is_abandoned(store, folders[folder]):
            logger.info("removing %s, which a preparation left unfinished", store.address(folder))
            _remove(store, folder)


def _is_abandoned(store: Store, keys: list[str]) -> bool:
    before = datetime.now(timezone.utc) - ABANDONED
    try:
        times = [store.modified_at(key) for key in keys]
    except StoreError:
        return False  # one has just been moved or removed
    return all(time is not None and time < before for time in times)


def _remove(store: Store, folder: str) -> None:
    """Removes a folder; that it can't be must not hide why it is to be removed."""
    try:
        store.delete(folder)
    except StoreError as error:
        logger.warning("%s can't be removed: %s", store.address(folder), error)
