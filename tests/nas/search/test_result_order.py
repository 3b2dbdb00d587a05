from __future__ import annotations

import random

import pytest

from cerebros_spark.core.types import EpochResult, StateRef, Status, TrialResult
from nas.search.result_order import ResultOrder

STATE = StateRef("key", 1, "0")


def epoch(name: str, number: int) -> EpochResult:
    return EpochResult(name, number, {}, STATE, 1.0, 1)


def end(name: str) -> TrialResult:
    return TrialResult(name, Status.COMPLETED, 1, 1.0)


def test_without_the_clock_who_came_first_is_heard_first():
    turns = ResultOrder(by_clock=False)
    for index, name in enumerate("abc"):
        turns.begin(name, index)
    turns.came(epoch("c", 0))
    turns.came(epoch("a", 0))
    assert turns.next() == epoch("c", 0)
    turns.heard("c", True)
    assert turns.next() == epoch("a", 0)
    assert turns.next() is None


def test_by_the_clock_a_result_waits_for_those_that_are_due_before_it():
    turns = ResultOrder(by_clock=True)
    turns.begin("a", 0)
    turns.begin("b", 1)
    turns.came(epoch("b", 0))
    assert turns.next() is None, "a is first"
    turns.came(epoch("a", 0))
    assert turns.next() == epoch("a", 0)
    turns.heard("a", True)
    turns.came(epoch("a", 1))
    assert turns.next() == epoch("b", 0)
    turns.heard("b", False)
    turns.came(end("b"))
    assert turns.next() == end("b")
    turns.end("b", trained=True)
    assert turns.next() == epoch("a", 1)


def test_a_held_trial_is_not_waited_for():
    turns = ResultOrder(by_clock=True)
    turns.begin("a", 0)
    turns.begin("b", 1)
    turns.came(epoch("a", 0))
    turns.next()
    turns.heard("a", None)
    turns.came(epoch("b", 0))
    assert turns.next() == epoch("b", 0)
    turns.heard("b", True)
    turns.release("a", True)
    turns.came(epoch("b", 1))
    assert turns.next() is None
    turns.came(epoch("a", 1))
    assert turns.next() == epoch("a", 1)


def heard(seed: int) -> list[str]:
    """Which results are heard in which order, if trials take random times."""
    draw = random.Random(seed)
    lengths = [3, 1, 4, 2, 5, 2]
    turns = ResultOrder(by_clock=True)
    waiting: list[list] = []
    order: list[str] = []
    left = list(enumerate(lengths))
    running: dict[str, int] = {}

    def begin() -> None:
        if left:
            index, length = left.pop(0)
            turns.begin(str(index), index)
            running[str(index)] = length
            waiting.append([epoch(str(index), 0)])

    for _ in range(3):
        begin()
    while running:
        if waiting:
            chosen = draw.choice(waiting)
            turns.came(chosen.pop(0))
            waiting = [each for each in waiting if each]
        result = turns.next()
        if result is None:
            continue
        name = result.trial_id
        if isinstance(result, TrialResult):
            turns.end(name, trained=True)
            del running[name]
            order.append(f"end {name}")
            begin()
            continue
        order.append(f"{name} {result.epoch}")
        last = result.epoch + 1 == running[name]
        turns.heard(name, not last)
        waiting.append([end(name)] if last else [epoch(name, result.epoch + 1)])
    return order


@pytest.mark.parametrize("seed", range(1, 20))
def test_the_order_does_not_depend_on_who_is_faster(seed):
    assert heard(seed) == heard(0)
