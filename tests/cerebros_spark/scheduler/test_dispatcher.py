from __future__ import annotations

from cerebros_spark.core.events import RunUnits, TrialSubmitted
from cerebros_spark.core.types import Unit
from cerebros_spark.scheduler.dispatcher import Dispatcher
from cerebros_spark.scheduler.trial_state import EpochPlan, TrialState
from cerebros_spark.scheduler.worker_queues import WorkerQueues
from tests.cerebros_spark.scheduler.simulated_workers import ref, result


class Setup:
    """A dispatcher with its plan, queues and trials."""

    def __init__(self, partitions: int, group_size: int = 16) -> None:
        self.plan = EpochPlan(partitions, validation=False)
        self.queues = WorkerQueues()
        self.dispatcher = Dispatcher(self.plan, self.queues, group_size)
        self.trials: dict[str, TrialState] = {}

    def add(self, *epochs: int, group: str = "") -> None:
        for count in epochs:
            index = len(self.trials)
            submitted = TrialSubmitted(f"t{index}", index, count, ref("s"), group)
            self.trials[submitted.trial_id] = TrialState(submitted, self.plan)
            self.dispatcher.add(self.trials[submitted.trial_id])

    def register(self, *workers: int) -> None:
        for worker in workers:
            self.queues.register(worker)

    def occupy(self, name: str, partition: int = 0) -> Unit:
        """Have a trial's unit run somewhere, so that it waits for no worker."""
        unit = self.trials[name].assign(partition)
        self.dispatcher.update(self.trials[name])
        return unit

    def finish(self, run: RunUnits, seconds: float = 1.0) -> None:
        for unit in run.units:
            trial = self.trials[unit.trial_id]
            self.queues.complete(run.worker, unit)
            trial.finish(result(run.worker, unit, seconds))
            self.dispatcher.record_cost(seconds)
            self.dispatcher.update(trial)

    def dispatch(self) -> dict[int, list[str]]:
        """The trials assigned, by worker."""
        instructions = self.dispatcher.dispatch()
        return {run.worker: [unit.trial_id for unit in run.units] for run in instructions}


def test_the_trial_with_most_work_left_is_served_first():
    setup = Setup(1)
    setup.add(1, 3, 2)
    setup.register(0)
    assert setup.dispatch() == {0: ["t1"]}
    assert setup.dispatch() == {}, "its worker is not free"
    assert setup.queues.is_busy(0)


def test_work_left_is_measured_in_seconds_once_costs_are_known():
    setup = Setup(2)
    setup.add(3, 2, 1)
    setup.register(0)
    for name, seconds in [("t0", 1.0), ("t1", 10.0)]:
        (run,) = setup.dispatcher.dispatch()
        assert run.units[0].trial_id == name
        setup.finish(run, seconds)
    setup.queues.remove(0)
    # t0 has 5 units of 1 s left, t1 3 of 10 s and t2 2 of 5.5 s, the mean of both.
    for name in ("t1", "t2", "t0"):
        setup.register(1)
        assert setup.dispatch() == {1: [name]}


def test_an_idle_worker_comes_before_one_that_has_requested_work_ahead():
    setup = Setup(2)
    setup.add(1)
    setup.register(0)
    assert setup.dispatch() == {0: ["t0"]}
    setup.queues.request_more(0)
    setup.add(1, 1)
    setup.occupy("t2", partition=1)  # so that both partitions have as many pending visits
    setup.register(1)
    assert setup.dispatch() == {1: ["t1"]}


def test_of_two_workers_the_one_with_more_pending_visits_is_served():
    setup = Setup(2)
    setup.add(1, 1)
    setup.occupy("t0")
    setup.register(0, 1)
    assert setup.dispatch() == {1: ["t1"]}


def test_a_removed_trial_is_not_dispatched():
    setup = Setup(1)
    setup.add(1, 1)
    setup.dispatcher.remove(setup.trials["t0"])
    setup.register(0)
    assert setup.dispatch() == {0: ["t1"]}


def test_half_a_share_of_a_group_is_dispatched_together_up_to_its_size():
    setup = Setup(2)
    setup.add(*[1] * 12, group="a")
    setup.register(0, 1)
    assert [len(names) for names in setup.dispatch().values()] == [3, 3]
    setup = Setup(2, group_size=2)
    setup.add(*[1] * 12, group="a")
    setup.register(0, 1)
    assert [len(names) for names in setup.dispatch().values()] == [2, 2]


def test_the_share_counts_only_trials_that_have_not_ended():
    setup = Setup(1)
    setup.add(*[1] * 8, group="a")
    for name in ("t0", "t1", "t2", "t3"):
        setup.dispatcher.remove(setup.trials[name])
    setup.register(0)
    assert setup.dispatch() == {0: ["t4", "t5"]}


def test_a_batch_too_small_for_a_busy_worker_is_not_dispatched():
    setup = Setup(1)
    setup.add(*[1] * 8, group="a")
    setup.register(0)
    assert setup.dispatch() == {0: ["t0", "t1", "t2", "t3"]}
    occupied = setup.occupy("t4")
    setup.occupy("t5")
    setup.occupy("t6")
    setup.queues.request_more(0)
    assert setup.dispatch() == {}
    assert setup.queues.free == {0}
    assert setup.trials["t7"].open_partitions == {0}
    setup.trials["t4"].unassign(occupied)
    setup.dispatcher.update(setup.trials["t4"])
    (ahead,) = setup.dispatcher.dispatch()
    assert [(unit.trial_id, unit.attempt) for unit in ahead.units] == [("t4", 0), ("t7", 0)]


def test_a_trial_that_must_run_alone_joins_no_batch():
    setup = Setup(1)
    setup.add(*[1] * 8, group="a")
    trial = setup.trials["t1"]
    trial.record_setback(trial.assign(0), worker_died=True)
    setup.register(0)
    assert setup.dispatch() == {0: ["t0", "t2", "t3", "t4"]}
    setup.register(0)
    assert setup.dispatch() == {0: ["t1"]}
