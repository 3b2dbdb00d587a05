"""Searches whose driver dies, and the same script run again."""

from __future__ import annotations

import os
import shutil
import signal
import time
from collections import Counter
from pathlib import Path

import autokeras as ak
import keras
import numpy as np
import pandas as pd
import pytest

from cerebros_spark import LocalBackend, LocalStore
from cerebros_spark.core.errors import ArgumentError, BackendError, SearchError
from cerebros_spark.runs.audit import audit
from cerebros_spark.runs.journal import Journal, journal_key, read
from nas import HyperHyperModel
from nas.results.result import ModelSelectionResult
from tests import fresh_process
from tests.nas.small_searches import after_each_record, columns, killed, search, small_space, table

# But for the search that is really killed, in another process.
pytestmark = pytest.mark.usefixtures("simulated_training")

TRIALS, EPOCHS = 3, 2


class DriverDied(BaseException):
    """Simulates a SIGKILL: nothing of the driver runs after it."""


@pytest.fixture(scope="module")
def frame() -> pd.DataFrame:
    return table()


def make_search(
    folder: Path, *, trials: int = TRIALS, bind: dict | None = None, **more
) -> HyperHyperModel:
    """A search of small Cerebros networks."""
    space = small_space(learning_rate=(0.01, 0.05, 0.1))
    bound = columns(**{"backend": LocalBackend(2), **(bind or {})})
    return search(folder, space=space, max_trials=trials, bind=bound, **more)


def make_one_layer_search(folder: Path) -> HyperHyperModel:
    """A search of networks that draw random numbers, of which Keras traces little."""

    def build(hp) -> keras.Model:
        dropout = keras.layers.Dropout(hp.Float("dropout", 0.1, 0.4))
        model = keras.Sequential([keras.Input((3,)), dropout, keras.layers.Dense(1)])
        model.compile(keras.optimizers.Adam(hp.Choice("learning_rate", [0.01, 0.05, 0.1])), "mse")
        return model

    model = HyperHyperModel(hypermodel=build, project_name="small", max_trials=TRIALS, seed=0)
    model.resource_bind(store=LocalStore(folder), **columns(backend=LocalBackend(2)))
    return model


def fit(model: HyperHyperModel, frame: pd.DataFrame, **more) -> ModelSelectionResult:
    arguments = {"epochs": EPOCHS, "batch_size": 16, "verbose": 0, "reproducible": True}
    return model.fit(frame, **{**arguments, **more})


def outcome(result: ModelSelectionResult) -> tuple:
    """Everything in a result but its durations."""
    board = result.leaderboard().drop(columns="seconds").to_json()
    values = [trial.values for trial in result.trials]
    kept = [trial.trial_id for trial in result.trials if trial.state is not None]
    models = [result.get_model(trial_id) for trial_id in kept]
    weights = [[np.asarray(each).tobytes() for each in model.weights] for model in models]
    return board, values, weights, result.get_history()


@pytest.fixture(scope="module")
def undisturbed(frame, tmp_path_factory):
    folder = tmp_path_factory.mktemp("undisturbed")
    result = fit(make_search(folder), frame)
    return outcome(result), read(LocalStore(folder), "small")


def dies_at(monkeypatch, number: int, part: float) -> None:
    """Has the driver die while it writes a record, of which only a part reaches the disk."""
    append = LocalStore.append
    dead = False

    def dying(self, key, data, at=None, **more):
        nonlocal dead
        if dead:
            raise DriverDied
        first, separator, last = data.partition(b'{"number":%d,' % number)
        if separator:
            record, _, _ = (separator + last).partition(b"\n")
            append(self, key, first + record[: int(len(record) * part)], at=at, **more)
            if part == 1.0:
                append(self, key, b"\n", **more)
            dead = True
            raise DriverDied
        append(self, key, data, at=at, **more)

    monkeypatch.setattr(LocalStore, "append", dying)


def cut_off(folder: Path, frame, number: int, part: float) -> tuple:
    """Runs a search whose driver dies at a record; gives the journal it left."""
    with pytest.MonkeyPatch.context() as patch:
        dies_at(patch, number, part)
        with pytest.raises(DriverDied):
            fit(make_search(folder), frame)
    return read(LocalStore(folder), "small")


@pytest.mark.parametrize(
    ("share", "part"), [(0.05, 1.0), (0.3, 0.5), (0.5, 0.0), (0.7, 1.0), (0.97, 0.5)]
)
def test_a_driver_that_dies_anywhere_loses_nothing(frame, tmp_path, undisturbed, share, part):
    expected, records = undisturbed
    number = 2 + int((len(records) - 2) * share)
    left = cut_off(tmp_path, frame, number, part)
    assert len(left) == number + (part == 1.0)
    result = fit(make_search(tmp_path), frame)
    assert outcome(result) == expected
    after = read(LocalStore(tmp_path), "small")
    assert after[: len(left)] == left, "what was in the journal stays there"
    assert audit(after) == []
    done = [r["unit"] for r in after if r["kind"] == "unit"]
    assert len(done) == TRIALS * EPOCHS * 2 * 2, "a finished unit was run again"
    assert result.engine_report.units == len(done) - sum(r["kind"] == "unit" for r in left)


def test_a_driver_may_die_more_than_once(frame, tmp_path, undisturbed):
    expected, records = undisturbed
    for number in (len(records) // 3, 2 * len(records) // 3):
        cut_off(tmp_path, frame, number, 0.3)
    assert outcome(fit(make_search(tmp_path), frame)) == expected
    after = read(LocalStore(tmp_path), "small")
    assert [r["session"] for r in after if r["kind"] == "session"] == [0, 1, 2]
    assert audit(after) == []


def search_in(*folders: str) -> None:
    for folder in folders:
        fit(make_one_layer_search(Path(folder)), table())


@pytest.mark.slow
def test_a_killed_process_is_resumed(frame, tmp_path, undisturbed):
    """A real SIGKILL, in the middle of training."""
    _, records = undisturbed
    folder, other = str(tmp_path), str(tmp_path / "alone")
    journal = tmp_path / journal_key("small")
    process = fresh_process.start(search_in, folder)
    while not journal.exists() or journal.read_bytes().count(b"\n") < len(records) // 2:
        assert process.is_alive(), "the search finished before it could be killed"
        time.sleep(0.01)
    process.kill()
    process.join()
    left = read(LocalStore(tmp_path), "small")
    assert left[-1]["kind"] != "done"
    # And the same search undisturbed: TensorFlow has as many threads in that process as in this
    # one only if nothing used it before.
    fresh_process.run(search_in, folder, other)
    after = read(LocalStore(tmp_path), "small")
    assert after[: len(left)] == left
    assert audit(after) == []

    def states(records):
        return sorted(
            (r["unit"]["trial_id"], r["unit"]["visit"], r["state"]["sha256"])
            for r in records
            if r["kind"] == "unit" and r["state"]
        )

    assert len(states(after)) == TRIALS * EPOCHS * 2
    assert states(after) == states(read(LocalStore(other), "small"))


@pytest.fixture(scope="module")
def abandoned(frame, tmp_path_factory):
    folder = tmp_path_factory.mktemp("abandoned")
    cut_off(folder, frame, 12, 0.5)
    return folder


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"seed": 1}, "seed = 0, and now it is 1"),
        ({"epochs": 3}, "epochs = 2, and now it is 3"),
        ({"batch_size": 8}, "batch_size = 16, and now it is 8"),
        ({"reproducible": False}, "reproducible = True, and now it is False"),
        ({"max_trials": 2}, "max_trials = 3, and now it is 2, but it may only grow"),
        ({"objective": "val_mean_squared_error"}, "objective"),
        ({"space": small_space()}, r"space.learning_rate = \[0.01, 0.05, 0.1\]"),
        ({"workers": 3}, r"partitions = 2, and now it is 3 \(the number of workers\)"),
        ({"rows": 60}, r"data = .*its rows, columns or split"),
        ({"metric": "mae"}, "compiled"),
    ],
)
def test_a_changed_argument_is_named(frame, abandoned, change, named):
    before = LocalStore(abandoned).read(journal_key("small"))
    more = {name: change[name] for name in ("seed", "objective") if name in change}
    fitting = {n: change[n] for n in ("epochs", "batch_size", "reproducible") if n in change}
    backend = LocalBackend(change.get("workers", 2))
    bind = columns(evaluation_metric=change.get("metric"), backend=backend)
    model = search(
        abandoned,
        space=change.get("space", small_space(learning_rate=(0.01, 0.05, 0.1))),
        max_trials=change.get("max_trials", TRIALS),
        bind=bind,
        **more,
    )
    with pytest.raises(ArgumentError, match=named) as caught:
        fit(model, frame.iloc[: change.get("rows", len(frame))], **fitting)
    assert "overwrite=True" in str(caught.value)
    assert LocalStore(abandoned).read(journal_key("small")) == before, "its writer may still live"


def test_a_run_is_replaced_only_when_the_next_one_begins(frame, abandoned):
    before = LocalStore(abandoned).list("runs")
    with pytest.raises(ArgumentError, match="val_nonsense_loss"):
        fit(make_search(abandoned, overwrite=True, objective="val_nonsense_loss"), frame)
    assert LocalStore(abandoned).list("runs") == before


def test_without_a_seed_a_run_keeps_the_one_that_was_drawn(frame, tmp_path):
    with pytest.MonkeyPatch.context() as patch:
        dies_at(patch, 6, 0.5)
        with pytest.raises(DriverDied):
            fit(make_search(tmp_path, trials=1, seed=None), frame)
    fit(make_search(tmp_path, trials=1, seed=None), frame)
    records = read(LocalStore(tmp_path), "small")
    assert Counter(record["kind"] for record in records)["run"] == 1
    assert audit(records) == []


def test_another_process_that_resumes_the_run_ends_this_one(frame, tmp_path, caplog):
    store = LocalStore(tmp_path)
    append = LocalStore.append
    there: set[str] = set()
    with pytest.MonkeyPatch.context() as patch:

        def intruded(self, key, data, at=None, **more):
            if b'"kind":"unit"' in data and at is not None:
                patch.setattr(LocalStore, "append", append)
                append(self, key, b"someone else's\n", at=at)
                there.update(self.list("runs"))
            append(self, key, data, at=at, **more)

        patch.setattr(LocalStore, "append", intruded)
        with pytest.raises(OSError, match="another process"):
            fit(make_search(tmp_path), frame)
    assert store.read(journal_key("small")).endswith(b"someone else's\n")
    assert there <= set(store.list("runs")), "what the other one needs was removed"
    assert "cannot commit the last results" in caplog.text
    assert "cannot stop the workers" not in caplog.text


@pytest.fixture
def heeding_ctrl_c():
    """A process that a shell has started in the background may ignore it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("heeding_ctrl_c")
def test_an_interrupted_search_has_the_result_so_far(frame, tmp_path, undisturbed):
    _, records = undisturbed
    last = max(r["number"] for r in records if r["kind"] == "end") - 2

    def interrupt(kinds):
        if len(kinds) == last:
            signal.raise_signal(signal.SIGINT)

    model = make_search(tmp_path)
    with pytest.raises(KeyboardInterrupt), after_each_record(interrupt):
        fit(model, frame)
    so_far = model.result
    assert {t.status.value for t in so_far.trials} >= {"completed"}
    assert so_far.keras().predict(frame[["a", "b", "c"]].to_numpy("float32"), verbose=0).shape
    result = fit(make_search(tmp_path), frame)
    assert set(result.leaderboard()["status"]) == {"completed"}
    assert audit(read(LocalStore(tmp_path), "small")) == []


def test_sigterm_ends_a_search_like_ctrl_c(frame, tmp_path):
    before = signal.getsignal(signal.SIGTERM)

    def terminate(kinds):
        if kinds[-1] == "answer":
            os.kill(os.getpid(), signal.SIGTERM)

    with pytest.raises(SystemExit) as ended, after_each_record(terminate):
        fit(make_search(tmp_path, trials=2), frame)
    assert ended.value.code == 128 + signal.SIGTERM
    assert signal.getsignal(signal.SIGTERM) == before
    assert fit(make_search(tmp_path, trials=2), frame).best_trial.score is not None
    assert audit(read(LocalStore(tmp_path), "small")) == []


def test_workers_that_do_not_start_leave_a_run_that_another_process_resumed(frame, tmp_path):
    def alone(**bind) -> HyperHyperModel:
        return make_search(tmp_path, trials=1, bind={"backend": LocalBackend(1), **bind})

    class Late(LocalBackend):
        """Simulates a full cluster: another driver starts while this one waits."""

        def start(self, job):
            fit(alone(), frame)
            raise BackendError("no workers")

    with pytest.raises(BackendError, match="no workers"):
        fit(make_search(tmp_path / "alone", trials=1, bind={"backend": Failing(1)}), frame)
    assert LocalStore(tmp_path / "alone").list("runs") == []
    with pytest.raises(BackendError, match="no workers"):
        fit(alone(backend=Late(1)), frame)
    assert read(LocalStore(tmp_path), "small")[-1]["kind"] == "done"
    assert fit(alone(), frame).engine_report.units == 0


class Failing(LocalBackend):
    """Simulates a full cluster."""

    def start(self, job):
        raise BackendError("no workers")


def test_a_failed_build_is_replayed_with_the_hyperparameters_it_declared(tmp_path):
    """A deeper block asks for more, and the tuner learns of it from failed builds, too."""
    frame = table()

    def asked() -> HyperHyperModel:
        keras.backend.clear_session()
        node = ak.Input()
        output = ak.RegressionHead()(ak.DenseBlock()(node))
        return search(
            tmp_path,
            inputs=node,
            outputs=output,
            tuner="random",
            max_trials=5,
            max_model_size=20_000,
            bind=columns(),
        )

    with killed(lambda kinds: kinds.count("end") == 4, by=DriverDied):
        fit(asked(), frame)
    left = read(LocalStore(tmp_path), "small")
    assert any(r["kind"] == "end" and r["status"] == "failed" for r in left)
    result = fit(asked(), frame)
    assert len(result.trials) == 5
    again = fit(asked(), frame)
    assert outcome(again) == outcome(result)


def test_a_tuner_that_proposes_something_else_is_an_error(frame, tmp_path, abandoned):
    shutil.copytree(abandoned, tmp_path, dirs_exist_ok=True)
    store = LocalStore(tmp_path)
    records = read(store, "small")  # without the line that was cut off
    for record in records:
        record.pop("digest", None)
        if record["kind"] == "proposal":
            record["values"]["learning_rate"] = 0.7
    store.delete(journal_key("small"))
    journal = Journal(store, "small")
    for record in records:
        kind = record.pop("kind")
        record.pop("number")
        journal.append(kind, **record)
    journal.commit()
    with pytest.raises(SearchError, match=r"the tuner now proposes .* for trial-0000"):
        fit(make_search(tmp_path), frame)


def test_many_consecutive_failures_end_the_search(frame, tmp_path):
    model = make_search(tmp_path, max_model_size=1)
    model.tuner_bind("random", max_trials=50, max_consecutive_failed_trials=4)
    with pytest.raises(
        SearchError, match=r"(?s)4 consecutive trials failed.*trial-0000.*TrialError"
    ):
        fit(model, frame)
    ends = [r for r in read(LocalStore(tmp_path), "small") if r["kind"] == "end"]
    assert [end["trial"] for end in ends] == [f"trial-{i:04d}" for i in range(4)]
    assert all("max_model_size" in end["traceback"] for end in ends)
