"""The calls of a tuner and their effect on the trials: no engine, no network."""

from __future__ import annotations

import keras_tuner
import pytest

from cerebros_spark.core.errors import TrialError
from cerebros_spark.core.types import EpochResult, StateRef, Status, TrialResult, TrialSpec
from nas.search.trial_callbacks import SearchCallbacks
from nas.search.tuner_session import TunerSession
from nas.trial.proposal import Pause, Proposal
from nas.trial.state import FinishedEpoch, RunningTrial

EPOCHS = 3


class ScriptedTuner:
    """A tuner that returns prepared verdicts."""

    def __init__(self) -> None:
        self.hyperparameters = keras_tuner.HyperParameters()
        self.verdicts: list[dict[str, bool]] = []
        self.proposed = 0

    def learn(self, hyperparameters) -> None:
        self.hyperparameters = hyperparameters

    def propose(self) -> Proposal | Pause:
        self.proposed += 1
        return Proposal("abcd"[self.proposed - 1], keras_tuner.HyperParameters())

    def observe(self, trial_id, epoch, logs) -> dict[str, bool]:
        return self.verdicts.pop(0)

    def conclude(self, trial_id, status) -> dict[str, bool]:
        return self.verdicts.pop(0)


@pytest.fixture
def session() -> TunerSession:
    objective = keras_tuner.Objective("val_loss", "min")
    return TunerSession(ScriptedTuner(), objective, by_clock=False)


def start(session: TunerSession, *verdicts: dict[str, bool]) -> list[RunningTrial]:
    """Return three built trials, and prepare the tuner's next verdicts."""
    session.tuner.verdicts = list(verdicts)
    trials = [session.propose() for _ in range(3)]
    for trial in trials:
        trial.spec = TrialSpec(trial.name, trial.index, "keras", "", 0, EPOCHS, 16)
    return trials


def epoch(number: int = 0, loss: float = 1.0, **more) -> FinishedEpoch:
    return FinishedEpoch(number, {"val_loss": loss}, **more)


def test_held_trials_are_released_in_the_order_in_which_the_tuner_names_them(session):
    a, b, c = start(session, {}, {}, {"c": True, "b": True, "a": False})
    assert session.observe(a, epoch()) == (True, None)
    assert session.observe(b, epoch()) == (True, None)
    assert session.table.in_flight == 1
    assert session.release_decided() == []
    assert session.observe(c, epoch()) == (True, True)
    assert session.release_decided() == [(b, True), (a, False)]
    assert session.release_decided() == []
    assert session.table.in_flight == 3


def test_a_decision_is_void_once_its_trial_is_released(session):
    a, b, _ = start(session, {}, {"a": False, "b": True})
    session.observe(a, epoch())
    session.observe(b, epoch())
    session.release(a, proceed=True)  # as a journal may have it
    a.held = True
    assert session.release_decided() == []


def test_callbacks_end_a_trial_that_the_tuner_would_train_on(session):
    a, _, c = start(session, {"a": True}, {})
    assert session.observe(a, epoch(stop=True)) == (True, False)
    assert session.observe(c, epoch(stop=True)) == (True, False), "it is not held"


def test_the_last_epoch_ends_a_trial(session):
    a, *_ = start(session)
    callbacks = SearchCallbacks(None, lambda ref: b"")
    for is_last in (False, True):
        result = EpochResult(a.name, 0, {}, StateRef("k", 1, "0"), 1.0, 1, is_last)
        assert callbacks.end_epoch(a, result).stop is is_last


def test_an_ended_trial_is_a_record_and_others_may_start_from_it(session):
    a, b, _ = start(session, {"a": True}, {"a": True}, {}, {})
    session.observe(a, epoch(0, loss=2.0, added_logs={"lr": 0.1}))
    improved, _ = session.observe(a, epoch(1, loss=3.0, added_logs={"lr": 0.2}))
    assert not improved
    record = session.conclude(TrialResult(a.name, Status.COMPLETED, 2, 1.0))
    assert record.history == {"val_loss": [2.0, 3.0], "lr": [0.1, 0.2]}
    assert (record.score, record.best_epoch, session.table.best_score) == (2.0, 0, 2.0)
    failed = session.conclude(TrialResult(b.name, Status.COMPLETED, 0, 1.0))
    assert (failed.status, failed.error) == (Status.FAILED, "no epoch had a finite val_loss")
    names = [trial.trial_id for trial in session.table.records]
    assert names == ["trial-0000", "trial-0001", "trial-0002"]
    with pytest.raises(TrialError, match="cannot start from trial-0001: its state was not kept"):
        session.table.find_parent("b")
