from __future__ import annotations

import random

import keras_tuner
import pytest

from cerebros_spark.core.types import EpochResult, StateRef, Status, TrialResult, TrialSpec
from nas.search.result_order import ResultOrder
from nas.trial.proposal import Proposal
from nas.trial.state import RunningTrial

STATE = StateRef("key", 1, "0")


def epoch(name: str, number: int) -> EpochResult:
    return EpochResult(name, number, {}, STATE, 1.0, 1)


def end(name: str) -> TrialResult:
    return TrialResult(name, Status.COMPLETED, 1, 1.0)


class Trials:
    """Running trials and the order of their results."""

    def __init__(self, by_clock: bool, names: str = "") -> None:
        self.running: dict[str, RunningTrial] = {}
        self.order = ResultOrder(self.running, by_clock=by_clock)
        for index, name in enumerate(names):
            self.start(name, index)

    def start(self, name: str, index: int) -> None:
        proposal = Proposal(name, keras_tuner.HyperParameters())
        spec = TrialSpec(name, index, "keras", "", 0, 9, 16)
        self.running[name] = RunningTrial(name, index, proposal, spec)
        self.order.start(self.running[name])

    def advance(self, name: str, proceed: bool | None) -> None:
        self.order.advance(self.running[name], proceed)

    def finish(self, name: str) -> None:
        self.order.finish(self.running.pop(name))


def test_without_the_clock_results_keep_the_order_of_arrival():
    trials = Trials(False, "abc")
    trials.order.add(epoch("c", 0))
    trials.order.add(epoch("a", 0))
    assert trials.order.pop() == epoch("c", 0)
    trials.advance("c", True)
    assert trials.order.pop() == epoch("a", 0)
    assert trials.order.pop() is None


def test_by_the_clock_a_result_waits_for_those_that_are_due_before_it():
    trials = Trials(True, "ab")
    order = trials.order
    order.add(epoch("b", 0))
    assert order.pop() is None, "a is first"
    assert not order.is_ready
    order.add(epoch("a", 0))
    assert order.pop() == epoch("a", 0)
    trials.advance("a", True)
    order.add(epoch("a", 1))
    assert order.pop() == epoch("b", 0)
    trials.advance("b", False)
    order.add(end("b"))
    assert order.pop() == end("b")
    trials.finish("b")
    assert order.pop() == epoch("a", 1)


def test_a_held_trial_is_not_waited_for():
    trials = Trials(True, "ab")
    order = trials.order
    order.add(epoch("a", 0))
    order.pop()
    trials.advance("a", None)
    order.add(epoch("b", 0))
    assert order.pop() == epoch("b", 0)
    trials.advance("b", True)
    order.release(trials.running["a"], True)
    order.add(epoch("b", 1))
    assert order.pop() is None
    order.add(epoch("a", 1))
    assert order.pop() == epoch("a", 1)


def handled(seed: int) -> list[str]:
    """Return the order in which results are handled if trials take random times."""
    rng = random.Random(seed)
    trials = Trials(True)
    waiting: list[list] = []
    order: list[str] = []
    proposals = list(enumerate([3, 1, 4, 2, 5, 2]))
    lengths: dict[str, int] = {}

    def start() -> None:
        if proposals:
            index, length = proposals.pop(0)
            trials.start(str(index), index)
            lengths[str(index)] = length
            waiting.append([epoch(str(index), 0)])

    for _ in range(3):
        start()
    while trials.running:
        if waiting:
            trials.order.add(rng.choice(waiting).pop(0))
            waiting = [each for each in waiting if each]
        result = trials.order.pop()
        if result is None:
            continue
        name = result.trial_id
        if isinstance(result, TrialResult):
            trials.finish(name)
            order.append(f"end {name}")
            start()
            continue
        order.append(f"{name} {result.epoch}")
        last = result.epoch + 1 == lengths[name]
        trials.advance(name, not last)
        waiting.append([end(name)] if last else [epoch(name, result.epoch + 1)])
    return order


@pytest.mark.parametrize("seed", range(1, 20))
def test_the_order_does_not_depend_on_which_trial_is_faster(seed):
    assert handled(seed) == handled(0)
