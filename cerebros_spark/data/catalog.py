"""Catalog of the prepared data in a store: lookup, writing and verification of files.

Each preparation writes its shards to a separate subfolder. The manifest, written last, names the
valid subfolder. So two processes that prepare the same data do not conflict.
"""

from __future__ import annotations

import contextlib
import logging
import uuid
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta, timezone

import msgspec

from cerebros_spark.core.errors import StoreError
from cerebros_spark.data.manifest import Manifest, OtherFormatError, Shard, manifest_key
from cerebros_spark.storage.store import Store

logger = logging.getLogger(__name__)

Shards = tuple[Shard, ...]
Inspect = Callable[[Manifest], None]

_ABANDONED = timedelta(days=1)
"""Time without writes after which a preparation is considered abandoned."""


def find(store: Store, fingerprint: str, inspect: Inspect | None = None) -> Manifest | None:
    """Return the manifest of prepared data; None if it is missing, invalid or in another format.

    If given, ``inspect`` is called with the manifest without its shards; its errors are not caught.
    If the manifest is found, folders of abandoned preparations are deleted.
    """
    manifest = _load_valid(store, fingerprint)
    if manifest is None:
        return None
    _remove_abandoned(store, fingerprint, manifest)
    logger.info("reusing prepared data %s", fingerprint)
    if inspect is not None:
        inspect(msgspec.structs.replace(manifest, train=(), validation=()))
    return manifest


def list_manifests(store: Store) -> list[Manifest]:
    """List the manifests of all prepared data in a store, except those in unsupported formats.

    Raises:
        StoreError: If a manifest cannot be read, or was altered.
    """
    keys = [key for key in store.list("data") if key.endswith("/manifest.json")]
    try:
        loaded = [_load(store, key) for key in keys if key.count("/") == 2]
    except ValueError as error:
        raise StoreError(f"{error}: remove its folder and prepare the data again") from error
    return [manifest for manifest in loaded if manifest is not None]


def write(
    store: Store,
    planned: Manifest,
    inspect: Inspect | None,
    write_shards: Callable[[str], tuple[Shards, Shards]],
) -> Manifest:
    """Write prepared data atomically and return its manifest.

    If another process has prepared the same data in the meantime, its manifest is returned.

    Args:
        store: Store of the data.
        planned: The manifest to write, without shards.
        inspect: Called with ``planned`` before anything is written; an exception aborts the
            preparation. If None, there is no such check.
        write_shards: Called with the key of a new folder. Writes the shards to this folder, and
            returns the training shards and the validation shards.
    """
    if inspect is not None:
        inspect(planned)
    name = planned.fingerprint
    with new_folder(store, name) as folder:
        train, validation = write_shards(folder)
        other = _load_valid(store, name)
        if other is not None:
            logger.info("another process has already prepared %s: reusing its data", name)
            _remove(store, folder)
            return other
        manifest = msgspec.structs.replace(planned, train=train, validation=validation)
        store.write(manifest_key(name), manifest.to_json().encode())
    logger.info(
        "prepared %s training and %s validation rows in %d partitions: %s",
        f"{manifest.train_rows:,}",
        f"{manifest.validation_rows:,}",
        manifest.partitions,
        name,
    )
    return manifest


@contextlib.contextmanager
def new_folder(store: Store, fingerprint: str) -> Iterator[str]:
    """Yield the key of a new folder for shards; delete the folder if the block raises an error.

    Folders of abandoned preparations are deleted first.
    """
    _remove_abandoned(store, fingerprint, None)
    folder = f"{_get_data_folder(fingerprint)}/{uuid.uuid4().hex[:16]}"
    try:
        yield folder
    except BaseException:
        _remove(store, folder)
        raise


def check_visible(store: Store, shard: Shard) -> None:
    """Raise StoreError unless this process sees the files that executors wrote."""
    names = file_names(store, shard.key)
    if any(file.name not in names for file in shard.files):
        raise StoreError(
            f"cannot find the files of the shard {shard.key!r} in {store.url}: use a store that "
            "the driver and every worker share, at the same path"
        )


def check_files(store: Store, shard: Shard, source: Store) -> None:
    """Check that a shard has exactly the recorded files, with their sizes and SHA-256 digests.

    Nothing is checked if no files are recorded.

    Args:
        store: Store of the shard.
        shard: The shard.
        source: Store from which the files are read: ``store``, or a local store with a copy of the
            shard under the same key.

    Raises:
        StoreError: If a file is missing, unexpected or altered.
    """
    if not shard.files:
        return
    written = {file.name: file for file in shard.files}
    names = file_names(store, shard.key)
    for name in sorted(written.keys() - set(names)):
        raise _make_damage_error(store, shard, name, "is missing")
    for name in names:
        if name not in written:
            raise _make_damage_error(store, shard, name, "was not written with this data")
        size, digest = source.digest(f"{shard.key}/{name}")
        if size != written[name].size:
            problem = f"has {size:,} bytes, but {written[name].size:,} were written"
            raise _make_damage_error(store, shard, name, problem)
        if digest != written[name].sha256:
            raise _make_damage_error(store, shard, name, "was altered: its sha256 differs")


def file_names(store: Store, key: str) -> list[str]:
    """Return a shard's file names, relative to its key ``key``.

    Files that Parquet readers ignore, with names that start with ``.`` or ``_``, are omitted.
    """
    names = [file[len(key) + 1 :] for file in store.list(key)]
    return [name for name in names if not name.rpartition("/")[2].startswith((".", "_"))]


def _make_damage_error(store: Store, shard: Shard, name: str, problem: str) -> StoreError:
    folder = "/".join(shard.key.split("/")[:2])
    return StoreError(
        f"the file {store.address(f'{shard.key}/{name}')} of the prepared data {problem}; remove "
        f"the folder {store.address(folder)} and run again: the data is then prepared again"
    )


def _load(store: Store, key: str) -> Manifest | None:
    """Return a manifest; None if its format is unsupported. Raise ValueError if it is invalid."""
    try:
        return Manifest.from_json(store.read(key).decode())
    except OtherFormatError as error:
        logger.info("ignoring the manifest %r: %s; the data is prepared again", key, error)
        return None
    except ValueError as error:
        raise ValueError(f"cannot use the manifest {store.address(key)}: {error}") from error


def _load_valid(store: Store, fingerprint: str) -> Manifest | None:
    key = manifest_key(fingerprint)
    if not store.list(key):
        return None
    try:
        return _load(store, key)
    except ValueError as error:
        logger.warning("%s: the data is prepared again", error)
        return None


def _get_data_folder(fingerprint: str) -> str:
    return manifest_key(fingerprint).rpartition("/")[0]


def _remove_abandoned(store: Store, fingerprint: str, manifest: Manifest | None) -> None:
    """Remove folders that are not in the manifest and to which no process has written recently."""
    start = f"{_get_data_folder(fingerprint)}/"
    folders: dict[str, list[str]] = {}
    for key in store.list(_get_data_folder(fingerprint)):
        first, below, _ = key[len(start) :].partition("/")
        if below:
            folders.setdefault(start + first, []).append(key)
    shards = (*manifest.train, *manifest.validation) if manifest else ()
    needed = {"/".join(shard.key.split("/")[:3]) for shard in shards}
    for folder in sorted(folders.keys() - needed):
        if _is_abandoned(store, folders[folder]):
            logger.info("removing %s of an abandoned preparation", store.address(folder))
            _remove(store, folder)


def _is_abandoned(store: Store, keys: list[str]) -> bool:
    before = datetime.now(timezone.utc) - _ABANDONED
    try:
        times = [store.modified_at(key) for key in keys]
    except StoreError:
        return False  # a file has just been moved or removed
    return all(time is not None and time < before for time in times)


def _remove(store: Store, folder: str) -> None:
    """Remove a folder; only log a failure, so that it does not hide an earlier error."""
    try:
        store.delete(folder)
    except StoreError as error:
        logger.warning("cannot remove %s: %s", store.address(folder), error)
