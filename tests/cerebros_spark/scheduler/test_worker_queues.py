from __future__ import annotations

from cerebros_spark.core.types import Phase, Unit
from cerebros_spark.scheduler.worker_queues import WorkerQueues
from tests.cerebros_spark.scheduler.simulated_workers import ref


def units(*names: str) -> list[Unit]:
    return [Unit(name, 0, Phase.TRAIN, 0, 0, 0, ref(name)) for name in names]


def test_a_worker_is_free_until_it_has_work_and_after_it_has_reported_all():
    queues = WorkerQueues()
    assert queues.register(0) == []
    assert (queues.free, queues.idle_count) == ({0}, 1)
    a, b = units("a", "b")
    queues.assign(0, [a, b])
    assert (queues.free, queues.idle_count) == (set(), 0)
    assert queues.complete(0, b)
    assert queues.is_busy(0)
    assert queues.holds(0, a)
    assert not queues.holds(0, b)
    assert queues.free == set()
    assert queues.complete(0, a)
    assert not queues.is_busy(0)
    assert queues.free == {0}


def test_a_report_of_a_unit_that_a_worker_does_not_hold_changes_nothing():
    queues = WorkerQueues()
    queues.register(0)
    a, b = units("a", "b")
    queues.assign(0, [a])
    assert not queues.complete(0, b)
    assert not queues.complete(1, a)
    assert queues.complete(0, a)
    assert not queues.complete(0, a), "a duplicate"


def test_a_worker_that_requests_more_is_free_though_busy():
    queues = WorkerQueues()
    queues.register(0)
    queues.assign(0, units("a"))
    queues.request_more(0)
    queues.request_more(1)  # it holds nothing, so this changes nothing
    assert (queues.free, queues.idle_count) == ({0}, 0)
    queues.assign(0, units("b"))
    assert queues.remove(0) == [units("a"), units("b")], "the batch that had begun comes first"
    assert queues.free == set()
    assert not queues.is_busy(0)


def test_a_restarted_worker_holds_nothing():
    queues = WorkerQueues()
    queues.register(0)
    queues.assign(0, units("a"))
    assert queues.register(0) == [units("a")]
    assert (queues.free, queues.idle_count) == ({0}, 1)


def test_a_freed_worker_is_returned_once():
    queues = WorkerQueues()
    for worker in (0, 1, 2):
        queues.register(worker)
    queues.remove(2)
    assert queues.pop_freed() == {0, 1}
    assert queues.pop_freed() == set()
    queues.assign(0, units("a"))
    queues.mark_freed(0)
    queues.mark_freed(1)
    assert queues.pop_freed() == {1}, "the other is not free"
