from __future__ import annotations

from cerebros_spark.core.events import RunUnits, TrialSubmitted
from cerebros_spark.core.types import Unit
from cerebros_spark.scheduler.dispatcher import Dispatcher
from cerebros_spark.scheduler.trial_state import Course, Trial
from cerebros_spark.scheduler.worker_queues import Workloads
from tests.cerebros_spark.scheduler.simulated_workers import ref, result


class Office:
    """A dispatcher with all that it works on."""

    def __init__(self, partitions: int, group_size: int = 16) -> None:
        self.course = Course(partitions, validation=False)
        self.workloads = Workloads()
        self.dispatcher = Dispatcher(self.course, self.workloads, group_size)
        self.trials: dict[str, Trial] = {}

    def enter(self, *epochs: int, group: str = "") -> None:
        for count in epochs:
            index = len(self.trials)
            submitted = TrialSubmitted(f"t{index}", index, count, ref("s"), group)
            self.trials[submitted.trial_id] = Trial(submitted, self.course)
            self.dispatcher.enter(self.trials[submitted.trial_id])

    def ready(self, *workers: int) -> None:
        for worker in workers:
            self.workloads.ready(worker)

    def hide(self, name: str, partition: int = 0) -> Unit:
        """Has a trial's unit on a partition run somewhere, so that it waits for no worker."""
        unit = self.trials[name].hand(partition)
        self.dispatcher.update(self.trials[name])
        return unit

    def finish(self, run: RunUnits, seconds: float = 1.0) -> None:
        for unit in run.units:
            trial = self.trials[unit.trial_id]
            self.workloads.report(run.worker, unit)
            trial.finish(result(run.worker, unit, seconds))
            self.dispatcher.learn(seconds)
            self.dispatcher.update(trial)

    def hand_out(self) -> dict[int, list[str]]:
        """By worker the trials that it is given."""
        told = self.dispatcher.hand_out()
        return {run.worker: [unit.trial_id for unit in run.units] for run in told}


def test_the_trial_with_most_left_is_served_first():
    office = Office(1)
    office.enter(1, 3, 2)
    office.ready(0)
    assert office.hand_out() == {0: ["t1"]}
    assert office.hand_out() == {}, "its worker is not free"
    assert office.workloads.is_busy(0)


def test_what_is_left_is_told_in_seconds_as_soon_as_these_are_known():
    office = Office(2)
    office.enter(3, 2, 1)
    office.ready(0)
    for name, seconds in [("t0", 1.0), ("t1", 10.0)]:
        (run,) = office.dispatcher.hand_out()
        assert run.units[0].trial_id == name
        office.finish(run, seconds)
    office.workloads.lost(0)
    # Left of t0 are 5 units of 1 s, of t1 3 of 10 s and of t2 2 of 5.5 s, the mean of both.
    for name in ("t1", "t2", "t0"):
        office.ready(1)
        assert office.hand_out() == {1: [name]}


def test_a_worker_without_work_comes_before_one_that_has_asked_ahead():
    office = Office(2)
    office.enter(1)
    office.ready(0)
    assert office.hand_out() == {0: ["t0"]}
    office.workloads.asks(0)
    office.enter(1, 1)
    office.hide("t2", partition=1)  # so that as many are still to visit the one as the other
    office.ready(1)
    assert office.hand_out() == {1: ["t1"]}


def test_of_two_workers_the_one_with_more_visitors_is_served():
    office = Office(2)
    office.enter(1, 1)
    office.hide("t0")
    office.ready(0, 1)
    assert office.hand_out() == {1: ["t1"]}


def test_a_trial_that_has_left_is_handed_to_nobody():
    office = Office(1)
    office.enter(1, 1)
    office.dispatcher.leave(office.trials["t0"])
    office.ready(0)
    assert office.hand_out() == {0: ["t1"]}


def test_half_a_share_of_a_group_is_handed_out_together_up_to_its_size():
    office = Office(2)
    office.enter(*[1] * 12, group="a")
    office.ready(0, 1)
    assert [len(names) for names in office.hand_out().values()] == [3, 3]
    office = Office(2, group_size=2)
    office.enter(*[1] * 12, group="a")
    office.ready(0, 1)
    assert [len(names) for names in office.hand_out().values()] == [2, 2]


def test_the_share_is_of_those_that_have_not_left():
    office = Office(1)
    office.enter(*[1] * 8, group="a")
    for name in ("t0", "t1", "t2", "t3"):
        office.dispatcher.leave(office.trials[name])
    office.ready(0)
    assert office.hand_out() == {0: ["t4", "t5"]}


def test_what_is_too_little_for_a_busy_worker_stays_where_it_was():
    office = Office(1)
    office.enter(*[1] * 8, group="a")
    office.ready(0)
    assert office.hand_out() == {0: ["t0", "t1", "t2", "t3"]}
    hidden = office.hide("t4")
    office.hide("t5")
    office.hide("t6")
    office.workloads.asks(0)
    assert office.hand_out() == {}
    assert office.workloads.free == {0}
    assert office.trials["t7"].open == {0}
    office.trials["t4"].withdraw(hidden)
    office.dispatcher.update(office.trials["t4"])
    (ahead,) = office.dispatcher.hand_out()
    assert [(unit.trial_id, unit.attempt) for unit in ahead.units] == [("t4", 0), ("t7", 0)]


def test_a_trial_that_must_run_alone_joins_nobody():
    office = Office(1)
    office.enter(*[1] * 8, group="a")
    trial = office.trials["t1"]
    trial.set_back(trial.hand(0), died=True)
    office.ready(0)
    assert office.hand_out() == {0: ["t0", "t2", "t3", "t4"]}
    office.ready(0)
    assert office.hand_out() == {0: ["t1"]}
