"""Custom code that was edited since a run was begun, or since it finished."""

from __future__ import annotations

import logging
import re
from pathlib import Path
from typing import Any

import autokeras as ak
import keras
import keras_tuner
import pytest

from cerebros_spark import LocalBackend, LocalStore
from cerebros_spark.core.errors import ArgumentError
from cerebros_spark.runs.journal import Journal, journal_key, read
from nas import HyperHyperModel
from tests.nas.custom_searches import own_table
from tests.nas.small_searches import columns, killed, search, small_space

pytestmark = pytest.mark.usefixtures("simulated_training")

UNITS = 4


@pytest.fixture(scope="module")
def frame():
    return own_table()


@keras.saving.register_keras_serializable(package="edited")
class Scaled(keras.layers.Layer):
    """A registered layer."""

    def call(self, x: Any) -> Any:
        return 2 * x


@keras.saving.register_keras_serializable(package="edited")
def half_squared(y_true: Any, y_pred: Any) -> Any:
    return keras.ops.mean(keras.ops.square(y_true - y_pred) / 2, axis=-1)


def build(hp: Any) -> keras.Model:
    hp.Int("seen", 1, 9)
    layers = [keras.layers.Dense(UNITS), Scaled(), keras.layers.Dense(1)]
    model = keras.Sequential([keras.Input((3,)), *layers])
    model.compile(keras.optimizers.SGD(1e-3), half_squared)
    return model


class Logged(keras.callbacks.Callback):
    """A callback that adds a metric."""

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        logs["twice"] = 2.0


class Drawing(keras_tuner.oracles.RandomSearchOracle):
    """A custom oracle."""

    def populate_space(self, trial_id: str) -> Any:
        return super().populate_space(trial_id)


def build_search(folder: Path, hypermodel: Any = build, **more: Any) -> HyperHyperModel:
    more = {"max_trials": 1, "seed": 0, "project_name": "edited", **more}
    search = HyperHyperModel(hypermodel=hypermodel, **more)
    search.resource_bind(store=LocalStore(folder), backend=LocalBackend(1), **columns())
    return search


def fit(model: HyperHyperModel, frame: Any, **more: Any) -> Any:
    return model.fit(frame, epochs=1, verbose=0, **more)


@pytest.fixture(scope="module")
def finished(tmp_path_factory, frame):
    """A finished run, with everything that may be custom."""
    folder = tmp_path_factory.mktemp("finished")
    fit(whole(folder), frame, callbacks=[Logged()])
    return folder


def whole(folder: Path) -> HyperHyperModel:
    search = build_search(folder)
    oracle = Drawing(objective=keras_tuner.Objective("val_loss", "min"), max_trials=1, seed=1)
    search.tuner_bind(oracle)
    return search


def test_a_finished_run_warns_that_nothing_is_trained(finished, frame, caplog):
    with caplog.at_level(logging.WARNING, "nas"):
        fit(whole(finished), frame, callbacks=[Logged()])
    (record,) = [r for r in caplog.records if "finished" in r.getMessage()]
    assert record.levelno == logging.WARNING
    assert re.search(
        r"the run 'edited' was finished on \d{4}-\d\d-\d\d at .* overwrite=True or another",
        record.getMessage(),
    )


def other_half(y_true: Any, y_pred: Any) -> Any:
    return keras.ops.mean(keras.ops.square(y_true - y_pred) / 3, axis=-1)


EDITS = [
    (UNITS, "UNITS", 5, r"begun with UNITS = 4, and now it is 5 \(hypermodel\)"),
    (Scaled.call, "Scaled.call", lambda self, x: 3 * x, r"other code of Scaled.call"),
    (half_squared, "half_squared.__code__", other_half.__code__, r"other code of half_squared"),
    (
        Logged.on_epoch_end,
        "Logged.on_epoch_end",
        lambda self, epoch, logs=None: None,
        r"other code of Logged.on_epoch_end \(callbacks\[0\]\)",
    ),
    (
        Drawing.populate_space,
        "Drawing.populate_space",
        lambda self, trial_id: None,
        r"other code of Drawing.populate_space \(tuner\)",
    ),
]


@pytest.mark.parametrize(("old", "name", "new", "named"), EDITS, ids=[e[1] for e in EDITS])
def test_an_edit_is_refused_by_its_name(finished, frame, monkeypatch, old, name, new, named):
    monkeypatch.setattr(f"{__name__}.{name}", new)
    before = LocalStore(finished).read(journal_key("edited"))
    with pytest.raises(ArgumentError, match=named) as caught:
        fit(whole(finished), frame, callbacks=[Logged()])
    assert "overwrite=True" in str(caught.value)
    advice = "Set it back to resume it" if name == "UNITS" else "Undo the edit to resume it"
    assert advice in str(caught.value)
    assert len(str(caught.value)) < 400
    assert LocalStore(finished).read(journal_key("edited")) == before


def test_an_edited_body_of_the_same_name_is_refused(tmp_path, frame):
    def first(hp: Any) -> keras.Model:
        model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(1)])
        model.compile(keras.optimizers.SGD(1e-3), "mse")
        return model

    def second(hp: Any) -> keras.Model:
        model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(9), keras.layers.Dense(1)])
        model.compile(keras.optimizers.Adam(0.1), "mse")
        return model

    second.__qualname__ = first.__qualname__
    fit(build_search(tmp_path, first), frame)
    with pytest.raises(ArgumentError, match=r"other code of first \(hypermodel\)"):
        fit(build_search(tmp_path, second), frame)
    fit(build_search(tmp_path, second, overwrite=True), frame)


CELL = """
import keras

def build(hp):
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(hp.Int("units", 1, 9))])
    model.add(keras.layers.Dense(1))
    model.compile("sgd", "mse")
    return model
"""


def test_a_cell_with_another_comment_gives_the_result(tmp_path, frame):
    scores = []
    for text in (CELL, CELL.replace("    return", "\n    # All of it.\n    return")):
        known: dict[str, Any] = {"__name__": "__main__"}
        exec(compile(text, "a cell", "exec"), known)
        scores.append(fit(build_search(tmp_path, known["build"]), frame).best_trial.score)
    assert scores[0] == scores[1]
    records = read(LocalStore(tmp_path), "edited")
    assert [each["kind"] for each in records].count("session") == 1


def test_an_edited_layer_that_no_network_has_does_not_count(tmp_path, frame, monkeypatch):
    class Unused(keras.layers.Layer):
        def call(self, x: Any) -> Any:
            return 2 * x

    monkeypatch.setattr(Unused, "__module__", "__main__")
    registered = keras.saving.get_custom_objects()
    monkeypatch.setitem(registered, "edited>Unused", Unused)
    fit(build_search(tmp_path), frame)
    monkeypatch.setattr(Unused, "call", lambda self, x: 3 * x)
    fit(build_search(tmp_path), frame)
    fit(build_search(tmp_path, custom_objects={"Unused": Unused}, overwrite=True), frame)
    monkeypatch.setattr(Unused, "call", lambda self, x: 4 * x)
    with pytest.raises(ArgumentError, match=r'other code of .*\(custom_objects\["Unused"\]\)'):
        fit(build_search(tmp_path, custom_objects={"Unused": Unused}), frame)


def asked_with(folder: Path, *metrics: Any) -> HyperHyperModel:
    head = ak.ClassificationHead(metrics=list(metrics))
    return search(folder, outputs=head, bind=columns("binary"), max_trials=1)


def test_metrics_without_a_name_are_the_same_in_every_process(tmp_path, frame):
    """Keras numbers them over the process: the second search has auc_2 and auc_3."""
    auc = keras.metrics.AUC
    keras.backend.clear_session()
    first = fit(asked_with(tmp_path, auc(), auc(curve="PR")), frame)
    resumed = fit(asked_with(tmp_path, auc(), auc(curve="PR")), frame)
    assert resumed.best_trial.score == first.best_trial.score
    with pytest.raises(ArgumentError, match=r"config\.curve = 'PR', and now it is 'ROC'") as caught:
        fit(asked_with(tmp_path, auc(), auc()), frame)
    assert len(str(caught.value)) < 350


STATEFUL_CELL = """
import keras
import time
from collections import Counter, deque

START = time.time()
cache, cnt, recent = {}, Counter(), deque()

def note(log, value):
    log.append(value)

def build(hp):
    units = hp.Int("units", 1, 9)
    cache[(units, 1)] = time.time() - START
    cnt["n".upper()] += 1
    note(recent, units)
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(units)])
    model.add(keras.layers.Dense(1))
    model.compile("sgd", "mse")
    return model
"""


def test_a_cell_with_state_that_is_run_twice_gives_the_result(tmp_path, frame, caplog):
    known: dict[str, Any] = {"__name__": "__main__"}
    exec(compile(STATEFUL_CELL, "a cell", "exec"), known)
    first = fit(build_search(tmp_path, known["build"]), frame)
    for changed in ("recent", "START"):
        if changed == "START":
            exec(compile(STATEFUL_CELL, "a cell", "exec"), known)
        caplog.clear()
        with caplog.at_level(logging.WARNING, "nas"):
            resumed = fit(build_search(tmp_path, known["build"]), frame)
        assert resumed.best_trial.score == first.best_trial.score
        messages = [r.getMessage() for r in caplog.records if "other values of" in r.getMessage()]
        assert messages == [
            f"the run 'edited' may have begun with other values of {changed}: they are not compared"
        ]


def test_an_interrupted_run_is_not_resumed_by_other_code(tmp_path, frame, monkeypatch):
    with killed(lambda kinds: kinds.count("end") == 1):
        fit(build_search(tmp_path, max_trials=3), frame)
    with monkeypatch.context() as patch:
        patch.setattr(f"{__name__}.UNITS", 7)
        with pytest.raises(ArgumentError, match="UNITS = 4, and now it is 7"):
            fit(build_search(tmp_path, max_trials=3), frame)
    assert len(fit(build_search(tmp_path, max_trials=3), frame).trials) == 3


def test_networks_that_depend_on_something_else_are_compared(tmp_path, frame, monkeypatch):
    """What no digest of code shows."""

    def build(hp: Any) -> keras.Model:
        import os

        units = int(os.environ["CEREBROS_TEST_UNITS"]) if hp.Float("wide", 0, 1) > 0 else 2
        model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(units)])
        model.add(keras.layers.Dense(1))
        model.compile("sgd", "mse")
        return model

    monkeypatch.setenv("CEREBROS_TEST_UNITS", "3")
    fit(build_search(tmp_path, build), frame)
    monkeypatch.setenv("CEREBROS_TEST_UNITS", "5")
    with pytest.raises(
        ArgumentError, match=r"other networks: for the hyperparameters of trial-0000 network.layers"
    ):
        fit(build_search(tmp_path, build), frame)
    monkeypatch.delenv("CEREBROS_TEST_UNITS")
    with pytest.raises(ArgumentError, match=r"trial-0000 can no longer be built: KeyError"):
        fit(build_search(tmp_path, build), frame)


def rewritten(folder: Path, to: Path, name: str, change: Any) -> None:
    """Copies a run as an earlier version would have recorded it."""
    records = read(LocalStore(folder), name)
    store = LocalStore(to)
    for key in LocalStore(folder).list("runs") + LocalStore(folder).list("data"):
        store.write(key, LocalStore(folder).read(key))
    store.delete(journal_key(name))
    journal = Journal(store, name)
    for record in records:
        kind = record.pop("kind")
        record.pop("number")
        record.pop("digest", None)
        change(kind, record)
        journal.append(kind, **record)
    journal.commit()


def test_a_run_of_an_earlier_version_is_resumed_with_a_warning(
    finished, tmp_path, frame, caplog, monkeypatch
):
    def change(kind: str, record: dict[str, Any]) -> None:
        if kind == "run":
            del record["code"], record["network"]
        if kind == "done":
            del record["at"]

    rewritten(finished, tmp_path, "edited", change)
    with caplog.at_level(logging.WARNING, "nas"):
        fit(whole(tmp_path), frame, callbacks=[Logged()])
    assert "recorded by an earlier version of this package, so its custom code" in caplog.text
    assert "the run 'edited' was begun on" in caplog.text
    monkeypatch.setattr(f"{__name__}.UNITS", 5)
    with pytest.raises(ArgumentError, match="other networks: for the hyperparameters of trial-0"):
        fit(whole(tmp_path), frame, callbacks=[Logged()])


def test_another_version_of_python_compares_networks_alone(finished, tmp_path, frame, caplog):
    def change(kind: str, record: dict[str, Any]) -> None:
        if kind == "run":
            record["code"]["python"] = "3.0"

    rewritten(finished, tmp_path, "edited", change)
    with caplog.at_level(logging.WARNING, "nas"):
        fit(whole(tmp_path), frame, callbacks=[Logged()])
    assert "recorded by Python 3.0" in caplog.text


def falling(distance: int) -> float:
    return 0.5**distance


@keras.saving.register_keras_serializable(package="edited")
class Gap(keras.metrics.Mean):
    def update_state(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> None:
        super().update_state(y_pred - keras.ops.cast(y_true, y_pred.dtype))


def test_a_decay_and_a_metric_of_a_cerebros_search_are_compared(tmp_path, frame, monkeypatch):
    def asked() -> HyperHyperModel:
        space = small_space(p_lateral_connection_decay=falling)
        bind = columns(evaluation_metric=Gap(name="gap"))
        return search(tmp_path, space=space, bind=bind, max_trials=1)

    fit(asked(), frame)
    fit(asked(), frame)
    with monkeypatch.context() as patch:
        patch.setattr(falling, "__code__", (lambda distance: 0.25**distance).__code__)
        with pytest.raises(ArgumentError, match=r"other code of falling \(space\)"):
            fit(asked(), frame)
    monkeypatch.setattr(Gap, "result", lambda self: 0.0)
    with pytest.raises(ArgumentError, match=r"other code of Gap \(evaluation_metric\)"):
        fit(asked(), frame)
