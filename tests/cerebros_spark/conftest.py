from __future__ import annotations

import uuid

import pytest

from cerebros_spark.storage.local import LocalStore
from cerebros_spark.storage.store import Store


@pytest.fixture
def no_waiting(monkeypatch):
    """Make retries of stores immediate."""
    monkeypatch.setattr(Store, "first_wait", 0.001)


@pytest.fixture(params=["local", "local with a space", "memory", "file url"])
def store(request, tmp_path) -> Store:
    """Stores of every kind."""
    if request.param == "local":
        return LocalStore(tmp_path / "store")
    if request.param == "local with a space":
        return Store.create(str(tmp_path / "a store, with spaces"))
    if request.param == "memory":
        return Store.create(f"memory://{uuid.uuid4().hex}")
    return Store(f"file://{tmp_path}/by-url", auto_mkdir=False)
