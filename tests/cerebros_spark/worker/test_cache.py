from __future__ import annotations

import pytest

from cerebros_spark import LocalStore
from cerebros_spark.core.errors import StoreError
from cerebros_spark.core.types import Phase, Unit
from cerebros_spark.runs.artifacts import make_state_ref
from cerebros_spark.worker.cache import StateCache

STATES = [make_state_ref(f"state-{data!r}", data) for data in (b"first", b"second")]
FIRST, SECOND = (Unit("a", 0, Phase.TRAIN, 0, 0, 0, ref) for ref in STATES)


@pytest.fixture
def store(tmp_path) -> LocalStore:
    store = LocalStore(tmp_path)
    store.write(FIRST.state.key, b"first")
    return store


def test_a_prefetched_state_is_returned_once_without_the_store(store):
    cache = StateCache(store)
    cache.prefetch(FIRST)
    store.delete(FIRST.state.key)
    assert cache.get(FIRST) == b"first"
    with pytest.raises(StoreError):
        cache.get(FIRST)


def test_a_trained_state_is_neither_prefetched_nor_read(store):
    cache = StateCache(store)
    cache.put("a", SECOND.state, b"second")
    cache.prefetch(SECOND)
    assert cache.get(SECOND) == b"second"
    assert cache.get(FIRST) == b"first", "another one is read"
    cache.remove("a")
    with pytest.raises(StoreError):
        cache.get(SECOND)
