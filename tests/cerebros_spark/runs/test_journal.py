from __future__ import annotations

import json
import math

import numpy as np
import pytest

from cerebros_spark.core.errors import ArgumentError, StoreError
from cerebros_spark.runs.journal import (
    Journal,
    format_record,
    journal_key,
    locate_run,
    read,
    recover,
    to_json_types,
)
from cerebros_spark.storage.local import LocalStore
from cerebros_spark.storage.store import Store
from tests.cerebros_spark.runs.small_journals import complete_run, records, write_run


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


def test_records_are_read_in_order_and_exactly(store, journal):
    first, second, third = read(store, "run")
    assert first == {"number": 0, "kind": "run", "seed": 0, "name": "größer\nals 1"}
    assert second["values"] == {"rate": 0.1, "kinds": ["a", None, True]}
    assert third["seconds"].hex() == (1 / 3).hex()
    assert [record["number"] for record in (first, second, third)] == [0, 1, 2]


def test_records_are_written_by_commit_and_not_before(store):
    journal = Journal(store, "run")
    write(journal, "unit", value=0)
    for number in (1, 3, 5):
        journal.append("unit", value=number)
        journal.append("unit", value=number + 1)
        assert [record["value"] for record in read(store, "run")] == list(range(number))
        journal.commit()
        assert [record["value"] for record in read(store, "run")] == list(range(number + 2))


def test_an_empty_commit_writes_nothing(store):
    Journal(store, "run").commit()
    assert store.list("runs") == []


def test_a_failed_commit_is_written_by_the_next_one(store, journal, monkeypatch):
    def full(*args, **more):
        raise StoreError("no space is left")

    journal.append("unit", value=1)
    with monkeypatch.context() as patch:
        patch.setattr(type(store), "append", full)
        with pytest.raises(StoreError, match="no space"):
            journal.commit()
    write(journal, "unit", value=2)
    assert [record.get("value") for record in read(store, "run")][3:] == [1, 2]


def test_each_run_has_its_own_journal(store, journal):
    write(Journal(store, "other"), "run")
    assert len(read(store, "run")) == 3
    assert len(read(store, "other")) == 1


@pytest.mark.parametrize("cut", [1, 10, 30])
def test_an_unfinished_last_line_is_ignored(store, journal, cut):
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


def test_infinities_and_nan_are_read_back(store):
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
def test_a_journal_is_resumed_after_its_last_complete_line(store, journal, cut):
    text = store.read(journal_key("run"))
    store.write(journal_key("run"), text[:-cut])
    recovered = recover(store, "run")
    assert [record["kind"] for record in recovered.records] == ["run", "trial"]
    resumed = Journal(store, "run", recovered)
    write(resumed, "unit", value=1)
    assert [record["kind"] for record in read(store, "run")] == ["run", "trial", "unit"]
    with pytest.raises(StoreError, match="another process"):
        write(journal, "unit", value=2)
    assert len(read(store, "run")) == 3


def test_a_journal_of_an_unfinished_line_is_empty(store):
    store.write(journal_key("run"), b'{"number":0,"ki')
    assert recover(store, "run").records == ()
    write(Journal(store, "run", recover(store, "run")), "run")
    assert len(read(store, "run")) == 1


def test_two_drivers_that_start_the_same_run_conflict(store):
    first, second = Journal(store, "run"), Journal(store, "run")
    write(first, "run")
    with pytest.raises(StoreError, match="another process"):
        write(second, "run")


def test_numpy_numbers_and_tuples_are_read_back_as_json_types(store):
    value = {"rate": np.float32(0.5), "units": (np.int64(3), 4)}
    write(Journal(store, "run"), "trial", **value)
    (record,) = read(store, "run")
    assert {name: record[name] for name in value} == to_json_types(value)
    assert to_json_types(value) == {"rate": 0.5, "units": [3, 4]}


def test_a_record_is_formatted_as_one_line():
    text = format_record(records(complete_run())[4])
    assert "t epoch 0 train partition 0 visit 0 attempt 0 on worker 0" in text
    long = format_record({"number": 1, "kind": "run", "space": ["x" * 500]})
    assert len(long) < 300


@pytest.mark.parametrize("ending", ["", "/", "/journal.jsonl"])
def test_a_run_is_located_by_its_folder_or_its_journal(tmp_path, ending):
    address = write_run(LocalStore(tmp_path / "a store"), complete_run())
    store, name = locate_run(address + ending)
    assert name == "mine"
    assert json.loads(store.read(journal_key(name)).split(b"\n")[0])["run"] == "r"


@pytest.mark.parametrize("run", ["mine", "runs", "/somewhere/runs/", "a/runs/b/c"])
def test_other_paths_are_no_runs(run):
    with pytest.raises(ArgumentError, match="STORE/runs/NAME"):
        locate_run(run)
