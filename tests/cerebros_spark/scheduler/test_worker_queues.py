from __future__ import annotations

from cerebros_spark.core.types import Phase, Unit
from cerebros_spark.scheduler.worker_queues import Workloads
from tests.cerebros_spark.scheduler.simulated_workers import ref


def units(*names: str) -> list[Unit]:
    return [Unit(name, 0, Phase.TRAIN, 0, 0, 0, ref(name)) for name in names]


def test_a_worker_is_free_until_it_has_work_and_again_when_all_is_reported():
    loads = Workloads()
    assert loads.ready(0) == []
    assert (loads.free, loads.resting) == ({0}, 1)
    a, b = units("a", "b")
    loads.give(0, [a, b])
    assert (loads.free, loads.resting) == (set(), 0)
    assert loads.report(0, b)
    assert loads.is_busy(0)
    assert loads.holds(0, a)
    assert not loads.holds(0, b)
    assert loads.free == set()
    assert loads.report(0, a)
    assert not loads.is_busy(0)
    assert loads.free == {0}


def test_a_report_of_what_a_worker_does_not_hold_changes_nothing():
    loads = Workloads()
    loads.ready(0)
    a, b = units("a", "b")
    loads.give(0, [a])
    assert not loads.report(0, b)
    assert not loads.report(1, a)
    assert loads.report(0, a)
    assert not loads.report(0, a), "a duplicate"


def test_a_worker_that_asks_is_free_though_busy():
    loads = Workloads()
    loads.ready(0)
    loads.give(0, units("a"))
    loads.asks(0)
    loads.asks(1)  # it has nothing that it could ask beside
    assert (loads.free, loads.resting) == ({0}, 0)
    loads.give(0, units("b"))
    assert loads.lost(0) == [units("a"), units("b")], "what had begun comes first"
    assert loads.free == set()
    assert not loads.is_busy(0)


def test_a_restarted_worker_is_free_of_what_it_had():
    loads = Workloads()
    loads.ready(0)
    loads.give(0, units("a"))
    assert loads.ready(0) == [units("a")]
    assert (loads.free, loads.resting) == ({0}, 1)


def test_who_became_free_is_told_once():
    loads = Workloads()
    for worker in (0, 1, 2):
        loads.ready(worker)
    loads.lost(2)
    assert loads.pop_freed() == {0, 1}
    assert loads.pop_freed() == set()
    loads.give(0, units("a"))
    loads.look_again(0)
    loads.look_again(1)
    assert loads.pop_freed() == {1}, "the other is not free"
