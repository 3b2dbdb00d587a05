from __future__ import annotations

import keras_tuner
import pytest

from cerebros_spark.errors import ArgumentError
from cerebros_spark.types import Status
from nas.tuners import TUNERS, tuner_factory
from nas.tuners.base import Pause, Proposal, Tuner

OBJECTIVE = keras_tuner.Objective("val_loss", "min")


def space(hp: keras_tuner.HyperParameters) -> None:
    hp.Int("units", 1, 1000)
    hp.Float("rate", 1e-4, 1e-1, sampling="log")
    if hp.Choice("kind", ["a", "b"]) == "a":
        with hp.conditional_scope("kind", ["a"]):
            hp.Boolean("extra")


def tuner(name: str = "random", *, max_trials: int = 5, seed: int = 0, overrides=None) -> Tuner:
    made = tuner_factory(name)(
        objective=OBJECTIVE, max_trials=max_trials, seed=seed, hyperparameters=overrides
    )
    known = made.hyperparameters
    space(known)
    made.learn(known)
    return made


def finish(made: Tuner, proposal: Proposal, loss: float = 1.0) -> None:
    assert made.observe(proposal.trial_id, 0, {"val_loss": loss, "loss": 2.0})
    made.conclude(proposal.trial_id, Status.COMPLETED)


def proposals(made: Tuner, count: int) -> list[dict]:
    found = [made.propose() for _ in range(count)]
    assert all(isinstance(each, Proposal) for each in found)
    return [dict(each.hyperparameters.values) for each in found]


@pytest.fixture(params=sorted(TUNERS))
def name(request) -> str:
    return request.param


# What every tuner must do ----------------------------------------------------------------


def test_the_same_seed_gives_the_same_proposals(name):
    first = proposals(tuner(name, seed=7), 5)
    assert proposals(tuner(name, seed=7), 5) == first
    assert proposals(tuner(name, seed=8), 5) != first
    assert proposals(tuner(name, seed=0), 5) == proposals(tuner(name, seed=0), 5)


def test_proposals_are_different_and_complete(name):
    found = proposals(tuner(name), 5)
    assert len({str(values) for values in found}) == 5
    for values in found:
        assert {"units", "rate", "kind"} <= set(values)
        assert 1 <= values["units"] <= 1000
        assert 1e-4 <= values["rate"] <= 1e-1
    assert len({values["units"] for values in found}) > 3
    # Two hyperparameters are not drawn from one stream.
    ranks = [sorted(found, key=lambda v: v[key]).index(found[0]) for key in ("units", "rate")]
    orders = [[sorted(v[k] for v in found).index(x[k]) for x in found] for k in ("units", "rate")]
    assert ranks[0] != ranks[1] or orders[0] != orders[1]


@pytest.mark.parametrize("in_flight", [1, 3, 5, 50])
def test_there_are_exactly_max_trials_whatever_is_in_flight(name, in_flight):
    made = tuner(name, max_trials=7)
    running: list[Proposal] = []
    ids = []
    while True:
        proposal = made.propose() if len(running) < in_flight else Pause.WAIT
        if isinstance(proposal, Proposal):
            running.append(proposal)
            ids.append(proposal.trial_id)
        elif running:
            finish(made, running.pop(0))
        else:
            assert proposal is Pause.DONE
            break
    assert len(ids) == len(set(ids)) == 7
    assert made.propose() is Pause.DONE


def test_a_tuner_that_is_done_stays_done_while_trials_run(name):
    made = tuner(name, max_trials=2)
    running = [made.propose(), made.propose()]
    assert made.propose() is Pause.DONE
    for proposal in running:
        finish(made, proposal)
    assert made.propose() is Pause.DONE


def test_trials_may_fail_in_any_way(name):
    made = tuner(name, max_trials=6)
    kinds = [Status.FAILED, Status.STOPPED, Status.COMPLETED] * 2
    for kind in kinds:
        proposal = made.propose()
        assert isinstance(proposal, Proposal)
        if kind is not Status.FAILED:
            made.observe(proposal.trial_id, 0, {"val_loss": 1.0})
        made.conclude(proposal.trial_id, kind)
    assert made.propose() is Pause.DONE


def test_many_failures_in_a_row_do_not_end_the_search(name):
    made = tuner(name, max_trials=15)
    for _ in range(15):
        proposal = made.propose()
        assert isinstance(proposal, Proposal)
        made.conclude(proposal.trial_id, Status.FAILED)
    assert made.propose() is Pause.DONE


def test_an_epoch_without_a_finite_score_does_no_harm(name):
    made = tuner(name, max_trials=2)
    first, second = made.propose(), made.propose()
    assert made.observe(first.trial_id, 0, {"val_loss": float("nan"), "loss": float("inf")})
    made.conclude(first.trial_id, Status.COMPLETED)
    assert made.observe(second.trial_id, 0, {"val_loss": 1.0, "mae": float("nan")})
    made.conclude(second.trial_id, Status.COMPLETED)
    assert made.propose() is Pause.DONE


def test_an_exhausted_space_ends_gracefully(name):
    made = tuner_factory(name)(objective=OBJECTIVE, max_trials=50, seed=0, hyperparameters=None)
    known = made.hyperparameters
    known.Choice("kind", ["a", "b", "c"])
    made.learn(known)
    running, seen = [], []
    while isinstance(proposal := made.propose(), Proposal):
        running.append(proposal)
        seen.append(proposal.hyperparameters.values["kind"])
    assert sorted(seen) == ["a", "b", "c"]
    while running:
        finish(made, running.pop())
        assert not isinstance(made.propose(), Proposal)
    assert made.propose() is Pause.DONE


def test_a_fixed_hyperparameter_is_respected(name):
    overrides = keras_tuner.HyperParameters()
    overrides.Fixed("rate", 0.5)
    overrides.Choice("units", [3, 5])
    found = proposals(tuner(name, max_trials=4, overrides=overrides), 4)
    assert {values["rate"] for values in found} == {0.5}
    assert {values["units"] for values in found} <= {3, 5}


def test_what_a_network_asks_for_later_is_learned(name):
    made = tuner(name, max_trials=30)
    proposal = made.propose()
    assert proposal.hyperparameters.Int("late", 1, 10**6) == 1
    finish(made, proposal)
    assert "late" in {hp.name for hp in made.hyperparameters.space}
    assert len({values.get("late") for values in proposals(made, 10)}) > 5


def test_two_tuners_do_not_disturb_each_other(name):
    alone = proposals(tuner(name, seed=3), 4)
    first, second = tuner(name, seed=3), tuner(name, seed=4)
    mixed = []
    for _ in range(4):
        mixed += proposals(first, 1)
        proposals(second, 1)
    assert mixed == alone


def test_an_unknown_tuner_is_refused_by_name():
    with pytest.raises(ArgumentError, match=r"no tuner called 'rnadom'; there is .*'random'"):
        tuner_factory("rnadom")
