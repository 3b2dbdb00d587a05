from __future__ import annotations

import copy
import json
import subprocess
import sys

import pytest

from cerebros_spark.core.errors import ArgumentError
from cerebros_spark.runs.audit import audit, line, located, main
from cerebros_spark.runs.journal import Journal, journal_key
from cerebros_spark.storage.local import LocalStore

PARTITIONS = 2


def ref(digest: str) -> dict:
    return {"key": f"state/{digest}", "size": 1, "sha256": digest}


def unit(trial: str, epoch: int, phase: str, partition: int, visit: int, state: str, after: str):
    told = {"trial_id": trial, "epoch": epoch, "phase": phase, "partition": partition}
    told |= {"visit": visit, "attempt": 0, "state": ref(state)}
    more = {"worker": partition, "state": ref(after) if after else None, "rows": 5, "seconds": 0.1}
    return ("unit", {"unit": told, **more})


def whole() -> list[tuple[str, dict]]:
    """One trial of two epochs, in order."""
    told: list[tuple[str, dict]] = [
        ("run", {"run": "r", "partitions": PARTITIONS}),
        ("session", {"session": 0}),
        ("proposal", {"trial": "t", "values": {}}),
        ("trial", {"trial": "t", "index": 0, "epochs": 2, "state": ref("s0")}),
    ]
    visit = 0
    for epoch in range(2):
        for partition in range(PARTITIONS):
            told.append(unit("t", epoch, "train", partition, visit, f"s{visit}", f"s{visit + 1}"))
            visit += 1
        for partition in range(PARTITIONS):
            told.append(unit("t", epoch, "validate", partition, visit, f"s{visit}", ""))
        told.append(("epoch", {"trial": "t", "epoch": epoch, "logs": {"loss": 1.0}}))
        kept = ref("s2")  # of the first epoch
        told.append(("answer", {"trial": "t", "proceed": True, "keep": not epoch, "kept": kept}))
    return [*told, ("end", {"trial": "t", "status": "completed", "kept": kept}), ("done", {})]


def records(told: list[tuple[str, dict]]) -> list[dict]:
    return [{"number": n, "kind": kind, **fields} for n, (kind, fields) in enumerate(told)]


def test_a_run_in_order_has_no_faults():
    assert audit(records(whole())) == []


def test_every_beginning_of_a_run_has_no_faults():
    told = whole()
    for length in range(1, len(told)):
        assert audit(records(told[:length])) == []


def changed(change) -> list[tuple[str, dict]]:
    told = copy.deepcopy(whole())
    change(told)
    return told


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        (lambda told: told.insert(5, copy.deepcopy(told[4])), "a second time"),
        (lambda told: told.insert(7, copy.deepcopy(told[6])), "a second time"),
        (lambda told: told.pop(5), "before the last training visit"),
        (lambda told: told.pop(7), "no validation on partition 1"),
        (lambda told: told[5][1]["unit"].update(visit=3), "visit 3, but 1 was next"),
        (lambda told: told[5][1]["unit"].update(state=ref("s9")), "did not start from the state"),
        (lambda told: told[10][1]["unit"].update(epoch=0), "it was in epoch 1"),
        (lambda told: told.pop(8), "an answer that nothing asked for"),
        (lambda told: told.append(copy.deepcopy(told[4])), "after its end"),
        (lambda told: told.insert(4, copy.deepcopy(told[3])), "built twice"),
        (lambda told: told.insert(9, copy.deepcopy(told[8])), "is told twice"),
        (lambda told: told[4][1].update(worker=1), "on worker 1, which does not hold it"),
        (lambda told: told[5][1]["unit"].update(partition=2), "there is no such partition"),
        (lambda told: told[6][1]["unit"].update(visit=1), "visit 1, but 2 was next"),
        (lambda told: told[9][1].update(kept=ref("s1")), "another state is kept than that"),
        (lambda told: told[-2][1].update(kept=None), "another state is kept than was kept last"),
        (lambda told: told[3][1].update(epochs=3), "completed after 2 of 3 epochs"),
        (lambda told: told.pop(-2), "over, but t has not ended"),
        (lambda told: told.insert(4, told.pop(-1)), "after the run was over"),
        (lambda told: told.pop(1), "no session had begun"),
        (lambda told: told.pop(3), "was never built"),
        (lambda told: told.append(("session", {"session": 2})), "session 1 was to come"),
        (lambda told: told.pop(0), "does not begin with a run"),
    ],
)
def test_what_is_wrong_is_named(change, fault):
    assert any(fault in each for each in audit(records(changed(change))))


def test_a_trial_that_could_not_be_built_is_no_fault():
    told = whole()
    told[-1:-1] = [("proposal", {"trial": "u", "values": {}}), ("end", {"trial": "u"})]
    assert audit(records(told)) == []


def test_a_record_is_told_in_one_line():
    text = line(records(whole())[4])
    assert "t epoch 0 train partition 0 visit 0 attempt 0 on worker 0" in text
    long = line({"number": 1, "kind": "run", "space": ["x" * 500]})
    assert len(long) < 300


@pytest.fixture
def store(tmp_path) -> LocalStore:
    return LocalStore(tmp_path / "a store")


def written(store: LocalStore, told: list[tuple[str, dict]]) -> str:
    journal = Journal(store, "mine")
    for kind, fields in told:
        journal.append(kind, **fields)
    journal.commit()
    return f"{store.url.removeprefix('file://')}/runs/mine"


def test_the_command_prints_and_audits(store):
    place = written(store, whole())
    command = [sys.executable, "-m", "cerebros_spark.journal", place]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert len(lines) == len(whole()) + 1
    assert "1 trials, 8 units, each once and in order" in lines[-1]


def test_the_command_ends_with_1_if_something_is_wrong(store, capsys):
    place = written(store, changed(lambda told: told.pop(5)))
    with pytest.raises(SystemExit) as ended:
        main([place, "--quiet"])
    assert ended.value.code == 1
    assert "FAULT record" in capsys.readouterr().out


def test_a_journal_with_a_changed_line_is_refused(store):
    written(store, whole())
    text = store.read(journal_key("mine"))
    store.write(journal_key("mine"), text.replace(b'"seconds":0.1', b'"seconds":0.2', 1))
    with pytest.raises(OSError, match=r"line 5 of .*journal.jsonl is damaged"):
        main([f"{store.url}/runs/mine"])


@pytest.mark.parametrize("ending", ["", "/", "/journal.jsonl"])
def test_a_run_is_found_by_its_folder_or_its_journal(store, ending):
    place = written(store, whole())
    found, name = located(place + ending)
    assert name == "mine"
    assert json.loads(found.read(journal_key(name)).split(b"\n")[0])["run"] == "r"


@pytest.mark.parametrize("run", ["mine", "runs", "/somewhere/runs/", "a/runs/b/c"])
def test_something_else_is_no_run(run):
    with pytest.raises(ArgumentError, match="STORE/runs/NAME"):
        located(run)
