from __future__ import annotations

import math

import numpy as np
import pytest

from cerebros_spark.core.errors import StoreError
from cerebros_spark.runs.journal import Journal, as_written, journal_key, read, recover
from cerebros_spark.storage.local import LocalStore
from cerebros_spark.storage.store import Store


@pytest.fixture(params=["local", "memory"])
def store(request, tmp_path) -> Store:
    return LocalStore(tmp_path) if request.param == "local" else Store(f"memory://{tmp_path}")


@pytest.fixture
def journal(store) -> Journal:
    journal = Journal(store, "run")
    journal.append("run", seed=0, name="größer\nals 1")
    journal.append("trial", values={"rate": 0.1, "kinds": ["a", None, True]})
    journal.append("end", seconds=1 / 3)
    journal.commit()
    return journal


def write(journal: Journal, kind: str, **fields) -> None:
    """One record, at once."""
    journal.append(kind, **fields)
    journal.commit()


def test_records_come_back_in_order_and_exactly(store, journal):
    first, second, third = read(store, "run")
    assert first == {"number": 0, "kind": "run", "seed": 0, "name": "größer\nals 1"}
    assert second["values"] == {"rate": 0.1, "kinds": ["a", None, True]}
    assert third["seconds"].hex() == (1 / 3).hex()
    assert [record["number"] for record in (first, second, third)] == [0, 1, 2]


def test_records_are_there_when_commit_returns_and_not_before(store):
    journal = Journal(store, "run")
    write(journal, "unit", value=0)
    for number in (1, 3, 5):
        journal.append("unit", value=number)
        journal.append("unit", value=number + 1)
        assert [record["value"] for record in read(store, "run")] == list(range(number))
        journal.commit()
        assert [record["value"] for record in read(store, "run")] == list(range(number + 2))


def test_to_commit_nothing_writes_nothing(store):
    Journal(store, "run").commit()
    assert store.list("runs") == []


def test_what_could_not_be_written_is_written_by_the_next_commit(store, journal, monkeypatch):
    def full(*args, **more):
        raise StoreError("no space is left")

    journal.append("unit", value=1)
    with monkeypatch.context() as patch:
        patch.setattr(type(store), "append", full)
        with pytest.raises(StoreError, match="no space"):
            journal.commit()
    write(journal, "unit", value=2)
    assert [record.get("value") for record in read(store, "run")][3:] == [1, 2]


def test_each_run_has_a_journal_of_its_own(store, journal):
    write(Journal(store, "other"), "run")
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
    with pytest.raises(StoreError, match=r"line 2 of .*runs/run/journal.jsonl is damaged"):
        read(store, "run")


def test_a_missing_or_doubled_line_is_named(store, journal):
    first, second, third, _ = store.read(journal_key("run")).split(b"\n")
    store.write(journal_key("run"), b"\n".join([first, third, b""]))
    with pytest.raises(StoreError, match=r"line 2 of .* lines before it were changed"):
        read(store, "run")
    store.write(journal_key("run"), b"\n".join([first, second, second, third, b""]))
    with pytest.raises(StoreError, match=r"line 3 of .* lines before it were changed"):
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
    logs = {"loss": math.inf, "r2": -math.inf, "x": math.nan}
    write(Journal(store, "run"), "epoch", logs=logs)
    logs = read(store, "run")[0]["logs"]
    assert logs["loss"] == math.inf
    assert logs["r2"] == -math.inf
    assert math.isnan(logs["x"])


@pytest.mark.parametrize("number", [0, 1, 2])
def test_any_changed_byte_is_found(store, journal, number):
    text = bytearray(store.read(journal_key("run")))
    text[(2 * number + 1) * len(text) // 6] ^= 1
    store.write(journal_key("run"), bytes(text))
    with pytest.raises(StoreError, match=rf"line {number + 1} of"):
        read(store, "run")


@pytest.mark.parametrize("cut", [1, 30])
def test_a_journal_is_gone_on_with_after_its_last_whole_line(store, journal, cut):
    text = store.read(journal_key("run"))
    store.write(journal_key("run"), text[:-cut])
    found = recover(store, "run")
    assert [record["kind"] for record in found.records] == ["run", "trial"]
    again = Journal(store, "run", found)
    write(again, "unit", value=1)
    assert [record["kind"] for record in read(store, "run")] == ["run", "trial", "unit"]
    with pytest.raises(StoreError, match="another process"):
        write(journal, "unit", value=2)
    assert len(read(store, "run")) == 3


def test_a_journal_of_half_a_line_is_empty(store):
    store.write(journal_key("run"), b'{"number":0,"ki')
    assert recover(store, "run").records == ()
    write(Journal(store, "run", recover(store, "run")), "run")
    assert len(read(store, "run")) == 1


def test_two_that_begin_the_same_run_are_told(store):
    first, second = Journal(store, "run"), Journal(store, "run")
    write(first, "run")
    with pytest.raises(StoreError, match="another process"):
        write(second, "run")


def test_numpy_numbers_and_tuples_come_back_as_json_has_them(store):
    value = {"rate": np.float32(0.5), "units": (np.int64(3), 4)}
    write(Journal(store, "run"), "trial", **value)
    (record,) = read(store, "run")
    assert {name: record[name] for name in value} == as_written(value)
    assert as_written(value) == {"rate": 0.5, "units": [3, 4]}
