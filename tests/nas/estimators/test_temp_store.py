from __future__ import annotations

import pytest

from cerebros_spark import LocalStore, Store
from nas.estimators.temp_store import search_in_store


def test_a_url_opens_the_store_of_its_kind(tmp_path):
    assert type(search_in_store(f"file://{tmp_path}", lambda store: store)) is LocalStore
    assert type(search_in_store("memory://runs", lambda store: store)) is Store


@pytest.mark.parametrize("scheme", ["s3", "hdfs"])
def test_urls_are_opened_by_create(scheme, monkeypatch):
    urls = []
    monkeypatch.setattr(Store, "create", lambda url: urls.append(url) or Store("memory://runs"))
    search_in_store(f"{scheme}://place/runs", lambda store: store)
    assert urls == [f"{scheme}://place/runs"]
