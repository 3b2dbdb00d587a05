"""What a tuner is asked and told, and what follows for the trials: no engine, no network."""

from __future__ import annotations

import keras_tuner
import pytest

from cerebros_spark.core.errors import TrialError
from cerebros_spark.core.types import Status, TrialResult, TrialSpec
from nas.search.result_order import ResultOrder
from nas.search.tuner_session import TunerSession
from nas.trial.proposal import Pause, Proposal
from nas.trial.state import FinishedEpoch, RunningTrial
from nas.trial.table import TrialTable

EPOCHS = 3


class Scripted:
    """A tuner that says what it is given."""

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
def dialogue() -> TunerSession:
    ledger = TrialTable(keras_tuner.Objective("val_loss", "min"))
    return TunerSession(Scripted(), ledger, ResultOrder(by_clock=False))


def begin(dialogue: TunerSession, *verdicts: dict[str, bool]) -> list[RunningTrial]:
    """Three trials under way, and what the tuner will say of them."""
    dialogue.tuner.verdicts = list(verdicts)
    tracks = [dialogue.propose() for _ in range(3)]
    for track in tracks:
        track.spec = TrialSpec(track.name, track.index, "keras", "", 0, EPOCHS, 16)
    return tracks


def epoch(number: int = 0, loss: float = 1.0, **more) -> FinishedEpoch:
    return FinishedEpoch(number, {"val_loss": loss}, **more)


def test_held_trials_are_let_go_in_the_order_in_which_the_tuner_names_them(dialogue):
    a, b, c = begin(dialogue, {}, {}, {"c": True, "b": True, "a": False})
    assert dialogue.take_in(a, epoch()) == (True, None)
    assert dialogue.take_in(b, epoch()) == (True, None)
    assert dialogue.ledger.in_flight == 1
    assert dialogue.release() == []
    assert dialogue.take_in(c, epoch()) == (True, True)
    assert dialogue.release() == [(b, True), (a, False)]
    assert dialogue.release() == []
    assert dialogue.ledger.in_flight == 3


def test_what_was_said_of_a_trial_is_void_once_it_is_let_go(dialogue):
    a, b, _ = begin(dialogue, {}, {"a": False, "b": True})
    dialogue.take_in(a, epoch())
    dialogue.take_in(b, epoch())
    dialogue.let_go(a, proceed=True)  # as a journal says
    a.held = True
    assert dialogue.release() == []


def test_callbacks_and_the_last_epoch_end_a_trial_that_the_tuner_would_train_on(dialogue):
    a, b, c = begin(dialogue, {"a": True}, {"b": True}, {})
    assert dialogue.take_in(a, epoch(stops=True)) == (True, False)
    assert dialogue.take_in(b, epoch(EPOCHS - 1)) == (True, False)
    assert dialogue.take_in(c, epoch(EPOCHS - 1)) == (True, False), "it is not held"


def test_a_trial_that_has_ended_is_a_record_and_others_may_start_from_it(dialogue):
    a, b, _ = begin(dialogue, {"a": True}, {"a": True}, {}, {})
    dialogue.take_in(a, epoch(0, loss=2.0, added={"lr": 0.1}))
    improved, _ = dialogue.take_in(a, epoch(1, loss=3.0, added={"lr": 0.2}))
    assert not improved
    record = dialogue.conclude(TrialResult(a.name, Status.COMPLETED, 2, 1.0))
    assert record.history == {"val_loss": [2.0, 3.0], "lr": [0.1, 0.2]}
    assert (record.score, record.best_epoch, dialogue.ledger.best) == (2.0, 0, 2.0)
    failed = dialogue.conclude(TrialResult(b.name, Status.COMPLETED, 0, 1.0))
    assert (failed.status, failed.error) == (Status.FAILED, "no epoch had a finite val_loss")
    assert [trial.trial_id for trial in dialogue.ledger.trials] == [
        "trial-0000",
        "trial-0001",
        "trial-0002",
    ]
    with pytest.raises(TrialError, match="it was to start from trial-0001, of which no state"):
        dialogue.ledger.kept_of("b")
