from __future__ import annotations

import msgspec
import pytest

from cerebros_spark import LocalStore
from cerebros_spark.core.errors import StoreError
from cerebros_spark.core.events import TrialSubmitted
from cerebros_spark.core.types import StateRef
from cerebros_spark.engine.state_gc import StateCollector, TrialStates
from cerebros_spark.scheduler.trial_state import EpochPlan, TrialState

FOLDER = "runs/r/trials/a/state"


def ref(name: str) -> StateRef:
    return StateRef(f"{FOLDER}/{name}", 1, name)


@pytest.fixture
def store(tmp_path) -> LocalStore:
    store = LocalStore(tmp_path)
    for name in ("initial", "kept", "pinned", "current", "old", "stray"):
        store.write(f"{FOLDER}/{name}", b"x")
    store.write("runs/r/trials/a/spec.json", b"{}")
    return store


@pytest.fixture
def collector(store) -> StateCollector:
    running = TrialState(TrialSubmitted("a", 0, 1, ref("current")), EpochPlan(1))
    collector = StateCollector(store, "r", {"a": running}.get)
    collector.trials["a"] = TrialStates(ref("initial"), ref("kept"), [ref("pinned")])
    return collector


def test_records_of_earlier_sessions_determine_the_states_to_keep(store):
    def recorded(name: str) -> dict:
        return msgspec.structs.asdict(ref(name))

    collector = StateCollector(store, "r", {}.get)
    built = {"kind": "trial", "trial": "a", "state": recorded("initial")}
    assert collector.replay(built) == ref("initial")
    answer = {"kind": "answer", "trial": "a", "kept": recorded("kept"), "learning_rate": None}
    assert collector.replay({**answer, "state": recorded("pinned")}) == ref("pinned")
    changed = {**answer, "state": recorded("old"), "learning_rate": 0.1}
    assert collector.replay(changed) == ref("old"), "it is replayable, so it need not stay"
    assert collector.replay(answer) is None
    collector.prune()
    assert names(store) == {"initial", "kept", "pinned", "spec.json"}


def names(store: LocalStore) -> set[str]:
    return {key.rsplit("/", 1)[1] for key in store.list("runs/r/trials/a")}


def test_only_replaced_states_that_do_not_stay_are_garbage(collector, store):
    for name in ("initial", "kept", "pinned", "old"):
        collector.discard("a", ref(name))
    collector.discard("a", None)
    assert "old" in names(store), "not before its record is committed"
    collector.collect()
    collector.close()
    assert names(store) == {"initial", "kept", "pinned", "current", "stray", "spec.json"}


@pytest.mark.parametrize("trial_id", ["a", ""])
def test_pruning_leaves_the_needed_states_and_the_spec(collector, store, trial_id):
    collector.prune(trial_id)
    assert names(store) == {"initial", "kept", "pinned", "current", "spec.json"}


def test_errors_of_the_store_are_logged(collector, monkeypatch, caplog):
    def fail(*_):
        raise StoreError("no connection")

    monkeypatch.setattr(LocalStore, "list", fail)
    monkeypatch.setattr(LocalStore, "delete", fail)
    collector.prune("a")
    collector.delete("key")
    assert "cannot prune states in runs/r/trials/a" in caplog.text
    assert "cannot delete key" in caplog.text
