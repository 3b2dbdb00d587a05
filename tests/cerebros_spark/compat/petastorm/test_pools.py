"""Pools that read all row groups; Petastorm's own classes, amended, whatever the libraries."""

from __future__ import annotations

import importlib
import sys
import types

import pytest

from cerebros_spark.compat.petastorm import pools
from cerebros_spark.compat.petastorm.loading import load_petastorm

load_petastorm()
EmptyResultError = importlib.import_module("petastorm.workers_pool").EmptyResultError


def amended(name, amend):
    """A copy of a module of Petastorm's pools, amended (once more, if it was)."""
    module = importlib.import_module(f"petastorm.workers_pool.{name}")
    copy = types.SimpleNamespace(**vars(module))
    amend(copy)
    return copy


class Echo:
    """Publishes each item that it processes."""

    def __init__(self, worker_id, publish, args):
        self.worker_id = worker_id
        self.publish_func = publish

    def process(self, item):
        self.publish_func(item)


class LateVentilator:
    """Hands out all items when it is asked whether it has handed out all."""

    def __init__(self, pool, items):
        self.pool = pool
        self.items = list(items)

    def start(self):
        pass

    def stop(self):
        pass

    def processed_item(self):
        pass

    def completed(self):
        while self.items:
            self.pool.ventilate(self.items.pop(0))
        return True


def results(pool):
    found = []
    try:
        while True:
            found.append(pool.get_results())
    except EmptyResultError:
        return found
    finally:
        pool.stop()
        pool.join()


def test_the_dummy_pool_reads_what_is_handed_out_last():
    pool = amended("dummy_pool", pools.amend_dummy_pool).DummyPool()
    pool.start(Echo, ventilator=LateVentilator(pool, range(5)))
    assert results(pool) == list(range(5))


@pytest.mark.parametrize("workers", [1, 2, 7])
def test_the_thread_pool_reads_what_is_handed_out_last(workers):
    pool = amended("thread_pool", pools.amend_thread_pool).ThreadPool(workers)
    pool.start(Echo, ventilator=LateVentilator(pool, range(5)))
    assert results(pool) == list(range(5))


class SlowVentilator(LateVentilator):
    """Hands out an item each third time that it is asked; meanwhile workers have nothing."""

    asked = 0

    def completed(self):
        self.asked += 1
        if self.items and self.asked % 3 == 0:
            self.pool.ventilate(self.items.pop(0))
        return not self.items


@pytest.mark.parametrize("workers", [2, 3])
def test_the_thread_pool_keeps_the_order(workers):
    pool = amended("thread_pool", pools.amend_thread_pool).ThreadPool(workers)
    pool.start(Echo, ventilator=SlowVentilator(pool, range(20)))
    assert results(pool) == list(range(20))


def test_a_pool_without_ventilator():
    pool = amended("thread_pool", pools.amend_thread_pool).ThreadPool(2)
    pool.start(Echo)
    for item in range(5):
        pool.ventilate(item)
    assert results(pool) == list(range(5))


def test_the_entry_point_of_processes_loads_petastorm(monkeypatch, tmp_path):
    module = types.SimpleNamespace()
    pools.amend_new_process(module)
    marker = tmp_path / "ran"
    (tmp_path / "entry.py").write_text(
        "import sys\n"
        "assert __name__ == '__main__' and 'petastorm' in sys.modules\n"
        "open(sys.argv[1], 'w').close()\n"
    )
    monkeypatch.setenv("PYTHONPATH", str(tmp_path), prepend=":")
    process = module.subprocess.Popen(
        args=[sys.executable, "-m", "entry", str(marker)], executable=sys.executable
    )
    assert process.wait() == 0
    assert marker.exists()
