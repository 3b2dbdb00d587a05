from __future__ import annotations

import pytest

from cerebros_spark import LocalStore, Store
from nas.estimators.temp_store import in_store


def test_a_url_opens_the_store_of_its_kind(tmp_path):
    assert type(in_store(f"file://{tmp_path}", lambda store: store)) is LocalStore
    assert type(in_store("memory://runs", lambda store: store)) is Store


@pytest.mark.parametrize("scheme", ["s3", "hdfs"])
def test_urls_of_services_are_left_to_create(scheme, monkeypatch):
    asked = []
    monkeypatch.setattr(Store, "create", lambda url: asked.append(url) or Store("memory://runs"))
    in_store(f"{scheme}://place/runs", lambda store: store)
    assert asked == [f"{scheme}://place/runs"]
