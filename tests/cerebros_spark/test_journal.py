from __future__ import annotations

import math

import pytest

from cerebros_spark.errors import StoreError
from cerebros_spark.journal import Journal, journal_key, read
from cerebros_spark.store import LocalStore, Store


@pytest.fixture(params=["local", "memory"])
def store(request, tmp_path) -> Store:
    return LocalStore(tmp_path) if request.param == "local" else Store(f"memory://{tmp_path}")


@pytest.fixture
def journal(store) -> Journal:
    journal = Journal(store, "run")
    journal.append("run", seed=0, name="größer\nals 1")
    journal.append("trial", values={"rate": 0.1, "kinds": ["a", None, True]})
    journal.append("end", seconds=1 / 3)
    return journal


def test_records_come_back_in_order_and_exactly(store, journal):
    first, second, third = read(store, "run")
    assert first == {"number": 0, "kind": "run", "seed": 0, "name": "größer\nals 1"}
    assert second["values"] == {"rate": 0.1, "kinds": ["a", None, True]}
    assert third["seconds"].hex() == (1 / 3).hex()
    assert [record["number"] for record in (first, second, third)] == [0, 1, 2]


def test_a_record_is_there_when_append_returns(store):
    journal = Journal(store, "run")
    for number in range(5):
        journal.append("unit", value=number)
        assert [record["value"] for record in read(store, "run")] == list(range(number + 1))


def test_each_run_has_a_journal_of_its_own(store, journal):
    Journal(store, "other").append("run")
    assert len(read(store, "run")) == 3
    assert len(read(store, "other")) == 1


@pytest.mark.parametrize("cut", [1, 10, 30])
def test_a_last_line_that_was_cut_by_a_crash_never_happened(store, journal, cut):
    text = store.read(journal_key("run"))
    store.write(journal_key("run"), text[:-cut])
    assert [record["kind"] for record in read(store, "run")] == ["run", "trial"]


def test_a_damaged_line_is_named(store, journal):
    lines = store.read(journal_key("run")).split(b"\n")
    lines[1] = lines[1][:20]
    store.write(journal_key("run"), b"\n".join(lines))
    with pytest.raises(StoreError, match="line 2 of the journal of 'run' is damaged"):
        read(store, "run")


def test_a_missing_or_doubled_line_is_named(store, journal):
    first, second, third, _ = store.read(journal_key("run")).split(b"\n")
    store.write(journal_key("run"), b"\n".join([first, third, b""]))
    with pytest.raises(StoreError, match="line 2 of the journal of 'run' is out of order"):
        read(store, "run")
    store.write(journal_key("run"), b"\n".join([first, second, second, third, b""]))
    with pytest.raises(StoreError, match="line 3 of the journal of 'run' is out of order"):
        read(store, "run")


def test_a_line_that_is_json_but_no_record_is_named(store, journal):
    first, _, third, _ = store.read(journal_key("run")).split(b"\n")
    store.write(journal_key("run"), b"\n".join([first, b"17", third, b""]))
    with pytest.raises(StoreError, match="line 2"):
        read(store, "run")


def test_a_missing_journal_is_a_store_error(store):
    with pytest.raises(StoreError, match=r"journal.jsonl"):
        read(store, "never ran")


def test_numbers_that_json_lacks_come_back(store):
    Journal(store, "run").append("epoch", logs={"loss": math.inf, "r2": -math.inf, "x": math.nan})
    logs = read(store, "run")[0]["logs"]
    assert logs["loss"] == math.inf
    assert logs["r2"] == -math.inf
    assert math.isnan(logs["x"])
