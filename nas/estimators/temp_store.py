"""Store of an estimator's search; by default a temporary folder, deleted with the result."""

from __future__ import annotations

import os
import shutil
import tempfile
import weakref
from collections.abc import Callable

from cerebros_spark.storage.local import LocalStore
from cerebros_spark.storage.store import Store
from nas.results.result import ModelSelectionResult


def search_in_store(
    store: Store | str | os.PathLike[str] | None, search: Callable[[Store], ModelSelectionResult]
) -> ModelSelectionResult:
    """Run a search in a store, given as an object, a URL or a folder.

    If ``store`` is None, a temporary folder is used. It is deleted when the result is
    garbage-collected, at the end of the process, or immediately if the search fails.
    """
    if isinstance(store, Store):
        return search(store)
    if isinstance(store, str) and "://" in store:
        return search(Store.create(store))
    if store is not None:
        return search(LocalStore(store))
    folder = tempfile.mkdtemp(prefix="cerebros-")
    try:
        result = search(LocalStore(folder))
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    # The result loads the weights of its trials from the folder.
    weakref.finalize(result, shutil.rmtree, folder, ignore_errors=True)
    return result
