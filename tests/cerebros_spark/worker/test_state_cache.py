from __future__ import annotations

import pytest

from cerebros_spark import LocalStore
from cerebros_spark.core.errors import StoreError
from cerebros_spark.runs.artifacts import make_state_ref
from cerebros_spark.worker.state_cache import StateCache

FIRST, SECOND = (make_state_ref(f"state-{data!r}", data) for data in (b"first", b"second"))


@pytest.fixture
def store(tmp_path) -> LocalStore:
    store = LocalStore(tmp_path)
    store.write(FIRST.key, b"first")
    return store


def test_a_prefetched_state_is_returned_once_without_the_store(store):
    cache = StateCache(store)
    cache.prefetch("a", FIRST)
    store.delete(FIRST.key)
    assert cache.get("a", FIRST) == b"first"
    with pytest.raises(StoreError):
        cache.get("a", FIRST)


def test_a_trained_state_is_neither_prefetched_nor_read(store):
    cache = StateCache(store)
    cache.put("a", SECOND, b"second")
    cache.prefetch("a", SECOND)
    assert cache.get("a", SECOND) == b"second"
    assert cache.get("a", FIRST) == b"first", "another one is read"
    cache.remove("a")
    with pytest.raises(StoreError):
        cache.get("a", SECOND)
