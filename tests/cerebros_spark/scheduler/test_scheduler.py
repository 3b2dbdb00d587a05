"""The scheduler, with random sequences of events and rule by rule."""

from __future__ import annotations

import heapq
import os
from collections.abc import Sequence

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cerebros_spark.core.errors import ProtocolError
from cerebros_spark.core.events import (
    EpochAnswered,
    Event,
    RunUnits,
    TrialEnded,
    TrialSubmitted,
    UnitCommitted,
    WorkerLost,
    WorkerReady,
    WorkRequested,
)
from cerebros_spark.core.types import EpochResult, Phase, Status, TrialResult, Unit
from cerebros_spark.scheduler.scheduler import Scheduler
from tests.cerebros_spark.scheduler.simulated_workers import Cluster, Player, ref, result

# After changing the scheduler, run 10,000 of them.
EXAMPLES = int(os.environ.get("CEREBROS_EXAMPLES", "300"))

NUMBERS = st.integers(0, 4 * len(Player.MOVES) * 30 - 1)


@settings(
    max_examples=EXAMPLES,
    suppress_health_check=[HealthCheck.too_slow],
)
@given(
    partitions=st.integers(1, 4),
    epochs=st.lists(st.integers(1, 4), min_size=1, max_size=8),
    reproducible=st.booleans(),
    max_attempts=st.integers(1, 4),
    groups=st.sampled_from([("",), ("a",), ("a", "b"), ("", "a", "a")]),
    # Hypothesis hardly ever makes a list long that may be short.
    moves=st.lists(NUMBERS, max_size=20) | st.lists(NUMBERS, min_size=50, max_size=120),
)
def test_every_trial_ends_and_every_visit_is_committed_once(
    partitions: int,
    epochs: list[int],
    reproducible: bool,
    max_attempts: int,
    groups: tuple[str, ...],
    moves: list[int],
) -> None:
    cluster = Cluster(partitions, reproducible=reproducible, max_attempts=max_attempts)
    player = Player(cluster, epochs, groups)
    for number in moves:
        player.play(number)
    for worker in set(range(partitions)) - cluster.ready:
        cluster.start(worker)
    for trial in player.todo:
        cluster.submit(*trial)
    cluster.flush()
    cluster.run_to_the_end()
    cluster.check_commits()


# The schedule ----------------------------------------------------------------------------


def makespan(epochs: Sequence[int], partitions: int, validation: bool) -> int:
    """Steps to train trials whose units take one step; reports of a step come together."""
    scheduler = Scheduler(partitions, validation=validation)
    running: dict[int, Unit] = {}
    waiting: list[str] = []

    def handle(events: Sequence[Event]) -> None:
        for instruction in scheduler.handle(*events):
            if isinstance(instruction, RunUnits):
                running[instruction.worker] = instruction.units[0]
            elif isinstance(instruction, EpochResult):
                waiting.append(instruction.trial_id)

    submitted = [
        TrialSubmitted(f"t{index}", index, count, ref("s")) for index, count in enumerate(epochs)
    ]
    handle([*submitted, *map(WorkerReady, range(partitions))])
    clock = 0
    while running:
        clock += 1
        ended = sorted(running.items())
        running.clear()
        handle([result(worker, unit) for worker, unit in ended])
        while waiting:
            answers = [EpochAnswered(name, True) for name in waiting]
            waiting.clear()
            handle(answers)
    assert not scheduler.running
    return clock


def lower_bound(epochs: Sequence[int], partitions: int, validation: bool) -> int:
    """The larger of the busiest partition's and the longest trial's work."""
    phases = 2 if validation else 1
    return phases * max(sum(epochs), max(epochs) * partitions)


@pytest.mark.parametrize("partitions", range(1, 9))
@pytest.mark.parametrize("validation", [True, False])
def test_with_equal_costs_the_makespan_is_minimal(partitions: int, validation: bool) -> None:
    for trials in range(1, 17):
        for count in (1, 2, 3, 6):
            epochs = [count] * trials
            assert makespan(epochs, partitions, validation) <= lower_bound(
                epochs, partitions, validation
            ), f"{trials} trials of {count} epochs"


@settings(max_examples=150)
@given(
    partitions=st.integers(1, 8),
    epochs=st.lists(st.integers(1, 6), min_size=1, max_size=16),
    validation=st.booleans(),
)
def test_with_different_epochs_a_trial_loses_at_most_one_step_per_answer(
    partitions: int, epochs: list[int], validation: bool
) -> None:
    # While a trial waits for its answer, workers start on others and are busy when it arrives.
    slack = max(1, max(epochs) - 1)
    assert (
        makespan(epochs, partitions, validation)
        <= lower_bound(epochs, partitions, validation) + slack
    )


# Single rules ---------------------------------------------------------------------------


def uneven_makespan(costs: Sequence[Sequence[int]]) -> int:
    """Time to train trials for an epoch, by each trial's cost on each partition."""
    scheduler = Scheduler(len(costs[0]), validation=False)
    ends: list[tuple[int, int, Unit]] = []
    clock = 0

    def handle(*events: Event) -> None:
        for instruction in scheduler.handle(*events):
            if isinstance(instruction, RunUnits):
                (unit,) = instruction.units
                cost = costs[int(unit.trial_id)][instruction.worker]
                heapq.heappush(ends, (clock + cost, instruction.worker, unit))
            elif isinstance(instruction, EpochResult):
                handle(EpochAnswered(instruction.trial_id, True))

    submitted = [TrialSubmitted(str(index), index, 1, ref("s")) for index in range(len(costs))]
    handle(*submitted, *map(WorkerReady, range(len(costs[0]))))
    while ends:
        clock, worker, unit = heapq.heappop(ends)
        handle(result(worker, unit, costs[int(unit.trial_id)][worker]))
    assert not scheduler.running
    return clock


@settings(max_examples=200)
@given(data=st.data(), partitions=st.integers(1, 8), trials=st.integers(1, 16))
def test_no_schedule_is_longer_than_the_papers_bound(data, partitions, trials) -> None:
    """C <= C* + (p - 1) Tmax, as by the vector rearrangement of Cerebro; the floor is below C*."""
    row = st.lists(st.integers(1, 50), min_size=partitions, max_size=partitions)
    costs = data.draw(st.lists(row, min_size=trials, max_size=trials))
    floor = max(*map(sum, costs), *map(sum, zip(*costs, strict=True)))
    longest = max(map(max, costs))
    assert uneven_makespan(costs) <= floor + (partitions - 1) * longest


def cluster_of(
    partitions: int, epochs: Sequence[int], *, reproducible: bool = False, max_attempts: int = 4
) -> Cluster:
    """A cluster with all workers ready and all trials submitted."""
    cluster = Cluster(partitions, reproducible=reproducible, max_attempts=max_attempts)
    for index, count in enumerate(epochs):
        cluster.submit(index, count)
    for worker in range(partitions):
        cluster.start(worker)
    cluster.flush()
    return cluster


def test_reproducible_runs_visit_in_the_order_fixed_in_advance() -> None:
    cluster = cluster_of(3, [2, 2], reproducible=True)
    while len(cluster.ended) < 2:
        if cluster.waiting:
            cluster.answer(max(cluster.waiting))
        else:
            cluster.finish(max(cluster.held))  # an unusual timing
        cluster.flush()
    for index in range(2):
        commits = cluster.trials[f"t{index}"].commits
        order = [u.partition for u in commits if u.phase is Phase.TRAIN]
        assert order == [(index + e + step) % 3 for e in range(2) for step in range(3)]


def test_a_lost_worker_costs_only_its_unit() -> None:
    cluster = cluster_of(1, [1])
    first = cluster.held[0][0]
    cluster.lose(0)
    cluster.start(0)
    cluster.flush()
    second = cluster.held[0][0]
    assert (second.epoch, second.partition, second.visit) == (0, 0, 0)
    assert (first.attempt, second.attempt) == (0, 1)


def test_another_partition_at_the_same_visit_counts_as_another_attempt() -> None:
    cluster = cluster_of(2, [1])
    (first,) = cluster.held
    cluster.lose(first, "gone")
    cluster.flush()
    assert cluster.held[1 - first][0].visit == 0
    assert cluster.held[1 - first][0].attempt == 1


def test_a_failed_trial_leaves_the_others_running() -> None:
    cluster = cluster_of(1, [1, 1])
    unit = cluster.held[0][0]
    cluster.fail(0)
    cluster.flush()
    assert cluster.ended[unit.trial_id].status is Status.FAILED
    assert cluster.ended[unit.trial_id].error == "ValueError: no"
    assert cluster.held[0][0].trial_id != unit.trial_id


@pytest.mark.parametrize(("epochs_before", "status"), [(0, Status.FAILED), (1, Status.STOPPED)])
def test_a_trial_that_diverges_is_stopped_once_it_has_an_epoch(epochs_before, status) -> None:
    cluster = cluster_of(1, [3])
    while cluster.held[0][0].epoch < epochs_before:
        cluster.finish(0)
        cluster.flush()
        for name in list(cluster.waiting):
            cluster.answer(name)
            cluster.flush()
    cluster.fail(0, diverged=True)
    cluster.flush()
    end = cluster.ended["t0"]
    assert (end.status, end.finished_epochs, end.error) == (status, epochs_before, "ValueError: no")


def test_a_retryable_unit_is_retried_but_not_for_ever() -> None:
    cluster = cluster_of(1, [1], max_attempts=3)
    for attempt in range(3):
        assert not cluster.ended
        assert cluster.held[0][0].attempt == attempt
        cluster.fail(0, retryable=True)
        cluster.flush()
    end = cluster.ended["t0"]
    assert (end.status, end.error) == (Status.FAILED, "ValueError: no")
    assert end.traceback == "Traceback …"


def test_a_trial_that_kills_workers_ends() -> None:
    cluster = cluster_of(1, [2, 1])
    while cluster.held[0][0].epoch == 0:
        cluster.finish(0)
        cluster.flush()
        for name in list(cluster.waiting):
            cluster.answer(name)
            cluster.flush()
    for reason in ("", "", "", "no sign of life"):
        assert "t0" not in cluster.ended
        cluster.lose(0, reason)
        cluster.start(0)
        cluster.flush()
    assert cluster.ended["t0"].error == (
        "the worker died in 4 of 4 attempts to train epoch 2 on partition 0; the last time: "
        "no sign of life. The network may need more memory than a worker has"
    )
    cluster.run_to_the_end()
    assert cluster.ended["t1"].status is Status.COMPLETED


def test_a_restarted_worker_and_a_failure_count_together() -> None:
    cluster = cluster_of(1, [1], max_attempts=2)
    cluster.fail(0, retryable=True)
    cluster.flush()
    cluster.start(0)
    cluster.flush()
    error = cluster.ended["t0"].error or ""
    assert error.startswith("the worker died in 1 of 2 attempts to train epoch 1 on partition 0")
    assert "it was restarted" in error


def test_a_stopped_trial_keeps_its_worker_until_that_reports() -> None:
    cluster = cluster_of(1, [5, 1])
    unit = cluster.held[0][0]
    cluster.end(TrialEnded(unit.trial_id))
    cluster.flush()
    assert cluster.ended[unit.trial_id].status is Status.STOPPED
    assert cluster.held[0][0] == unit
    cluster.finish(0)
    cluster.flush()
    assert cluster.held[0][0].trial_id != unit.trial_id
    assert cluster.trials[unit.trial_id].commits == []


def test_the_driver_may_fail_a_trial() -> None:
    scheduler = Scheduler(1)
    scheduler.handle(TrialSubmitted("t0", 0, 1, ref("s")))
    (end,) = scheduler.handle(TrialEnded("t0", "no metrics", "Traceback …"))
    assert end == TrialResult("t0", Status.FAILED, 0, 0.0, "no metrics", "Traceback …")
    assert scheduler.handle(TrialEnded("t0", "twice")) == []


def test_a_journal_is_replayed_without_workers() -> None:
    start = TrialSubmitted("t0", 0, 2, ref("t0/0"))
    train = Unit("t0", 0, Phase.TRAIN, 0, 0, 2, ref("t0/0"))
    validate = Unit("t0", 0, Phase.VALIDATE, 0, 1, 0, ref("t0/1-2"))
    scheduler = Scheduler(1)
    assert scheduler.handle(start) == []
    assert scheduler.handle(UnitCommitted(result(0, train))) == []
    (epoch,) = scheduler.handle(UnitCommitted(result(0, validate)))
    assert isinstance(epoch, EpochResult)
    assert (epoch.epoch, epoch.state, epoch.rows) == (0, ref("t0/1-2"), 20)
    assert scheduler.handle(EpochAnswered("t0", True)) == []
    (run,) = scheduler.handle(WorkerReady(0))
    assert run == RunUnits(0, (Unit("t0", 1, Phase.TRAIN, 0, 1, 0, ref("t0/1-2")),))


@pytest.mark.parametrize(
    ("unit", "reproducible"),
    [
        (Unit("t9", 0, Phase.TRAIN, 0, 0, 0, ref("s")), False),  # no such trial
        (Unit("t0", 1, Phase.TRAIN, 0, 0, 0, ref("s")), False),  # another epoch
        (Unit("t0", 0, Phase.VALIDATE, 0, 0, 0, ref("s")), False),  # another phase
        (Unit("t0", 0, Phase.TRAIN, 0, 1, 0, ref("s")), False),  # another visit
        (Unit("t0", 0, Phase.TRAIN, 2, 0, 0, ref("s")), False),  # no such partition
        (Unit("t0", 0, Phase.TRAIN, 1, 0, 0, ref("s")), True),  # another order
    ],
)
def test_an_inconsistent_journal_is_refused(unit: Unit, reproducible: bool) -> None:
    scheduler = Scheduler(2, reproducible=reproducible)
    scheduler.handle(TrialSubmitted("t0", 0, 2, ref("s")))
    with pytest.raises(ProtocolError, match=r"no trial 't9'|out of turn"):
        scheduler.handle(UnitCommitted(result(0, unit)))


def test_a_running_or_committed_unit_cannot_be_committed() -> None:
    unit = Unit("t0", 0, Phase.TRAIN, 0, 0, 0, ref("s"))
    scheduler = Scheduler(1)
    scheduler.handle(TrialSubmitted("t0", 0, 1, ref("s")), UnitCommitted(result(0, unit)))
    with pytest.raises(ProtocolError, match="out of turn"):
        scheduler.handle(UnitCommitted(result(0, unit)))
    scheduler = Scheduler(1)
    scheduler.handle(TrialSubmitted("t0", 0, 1, ref("s")), WorkerReady(0))
    with pytest.raises(ProtocolError, match="out of turn"):
        scheduler.handle(UnitCommitted(result(0, unit)))


def test_events_that_arrive_together_are_scheduled_together() -> None:
    scheduler = Scheduler(2)
    # Handled one by one, the short trial would have got the worker.
    instructions = scheduler.handle(
        WorkerReady(0),
        TrialSubmitted("short", 0, 1, ref("s")),
        TrialSubmitted("long", 1, 3, ref("s")),
    )
    assert [i.units[0].trial_id for i in instructions if isinstance(i, RunUnits)] == ["long"]


def test_an_impossible_event_lists_the_last_events() -> None:
    scheduler = Scheduler(1)
    scheduler.handle(TrialSubmitted("t0", 0, 1, ref("s")))
    with pytest.raises(ProtocolError, match=r"submitted twice[\s\S]*TrialSubmitted"):
        scheduler.handle(TrialSubmitted("t0", 0, 1, ref("s")))
    with pytest.raises(ProtocolError, match="does not wait for an answer"):
        scheduler.handle(EpochAnswered("t0", True))
    with pytest.raises(ProtocolError, match="no worker 7"):
        scheduler.handle(WorkerReady(7))


def test_losses_without_a_unit_are_counted_until_a_unit_is_finished() -> None:
    scheduler = Scheduler(1)
    scheduler.handle(TrialSubmitted("t0", 0, 1, ref("s")))

    def lose(fatal: bool = False) -> int:
        scheduler.handle(WorkerLost(0, fatal=fatal))
        return scheduler.count_idle_losses(0)

    assert lose() == 1
    scheduler.handle(WorkerReady(0))
    assert lose() == 1, "it held a unit"
    scheduler.handle(WorkerReady(0))
    assert lose(fatal=True) == 2
    (run,) = scheduler.handle(WorkerReady(0))
    scheduler.handle(result(0, run.units[0]))
    assert scheduler.count_idle_losses(0) == 0


# Groups ----------------------------------------------------------------------------------


def first_assignments(groups: Sequence[str], workers: int) -> list[list[str]]:
    """The trials in each worker's first assignment."""
    scheduler = Scheduler(workers)
    submitted = [TrialSubmitted(f"t{i}", i, 1, ref(f"t{i}"), g) for i, g in enumerate(groups)]
    events = [*submitted, *(WorkerReady(worker) for worker in range(workers))]
    runs = [i for i in scheduler.handle(*events) if isinstance(i, RunUnits)]
    return [[unit.trial_id for unit in run.units] for run in runs]


def test_trials_of_a_group_are_assigned_together_half_a_share_at_a_time():
    assert [len(units) for units in first_assignments(["a"] * 8, workers=2)] == [2, 2]
    assert [len(units) for units in first_assignments(["a"] * 80, workers=2)] == [16, 16]
    assert first_assignments(["a"] * 2, workers=2) == [["t0"], ["t1"]]


def test_only_trials_of_one_group_are_put_together():
    (one,) = first_assignments(["a", "b", "a", "", "a", "a"], workers=1)
    assert one == ["t0", "t2"]
    (alone,) = first_assignments(["", "", "", ""], workers=1)
    assert alone == ["t0"]


def test_units_that_killed_their_worker_run_alone():
    cluster = Cluster(1)
    for index in range(4):
        cluster.submit(index, 1, "a")
    cluster.start(0)
    cluster.flush()
    together = cluster.held[0]
    assert [unit.trial_id for unit in together] == ["t0", "t1"]
    cluster.lose(0)
    cluster.start(0)
    cluster.flush()
    assigned = [[unit.trial_id for unit in cluster.held[0]]]
    while len(assigned) < 3:
        for _ in range(len(assigned[-1])):
            cluster.finish(0)
        cluster.flush()
        assigned.append([unit.trial_id for unit in cluster.held[0]])
    assert ["t0"] in assigned
    assert ["t1"] in assigned


# Work ahead ---------------------------------------------------------------------------


def test_units_that_a_lost_worker_had_not_begun_are_not_the_cause():
    cluster = cluster_of(1, [1, 1], max_attempts=1)
    (first,) = cluster.held[0]
    cluster.request(0)
    cluster.flush()
    (second,) = cluster.ahead[0]
    assert second.trial_id != first.trial_id
    cluster.lose(0)
    cluster.start(0)
    cluster.flush()
    assert cluster.ended[first.trial_id].status is Status.FAILED
    (retried,) = cluster.held[0]
    assert (retried.trial_id, retried.attempt) == (second.trial_id, 1)


def test_an_idle_worker_is_served_before_one_that_requests_work_ahead():
    cluster = Cluster(2)
    cluster.submit(0, 1)
    cluster.start(0)
    cluster.flush()
    cluster.request(0)
    cluster.flush()
    cluster.start(1)
    cluster.submit(1, 1)
    cluster.flush()
    assert [unit.trial_id for unit in cluster.held[1]] == ["t1"]
    assert not cluster.ahead


def test_a_busy_worker_waits_for_half_a_batch():
    scheduler = Scheduler(1)
    trials = [TrialSubmitted(f"t{i}", i, 1, ref(f"t{i}"), "a") for i in range(16)]
    (first,) = scheduler.handle(*trials, WorkerReady(0))
    (ahead,) = scheduler.handle(WorkRequested(0))
    assert [len(each.units) for each in (first, ahead)] == [8, 8]
    ends = [result(0, unit) for unit in first.units]
    scheduler.handle(*ends[:3])
    assert scheduler.handle(WorkRequested(0)) == [], "three could be validated, of eight"
    (more,) = scheduler.handle(ends[3])
    assert [u.trial_id for u in more.units] == [u.trial_id for u in first.units[:4]]


def test_an_idle_worker_does_not_wait():
    scheduler = Scheduler(1, validation=False)
    trials = [TrialSubmitted(f"t{i}", i, 2, ref(f"t{i}"), "a") for i in range(16)]
    instructions = scheduler.handle(*trials, WorkerReady(0))
    waiting: list[str] = []
    while instructions:
        waiting += [each.trial_id for each in instructions if isinstance(each, EpochResult)]
        runs = [each for each in instructions if isinstance(each, RunUnits)]
        instructions = scheduler.handle(*(result(0, unit) for run in runs for unit in run.units))
    assert sorted(waiting) == sorted(trial.trial_id for trial in trials)
    assert scheduler.idle_workers == 1
    (run,) = scheduler.handle(EpochAnswered("t3", True))
    assert isinstance(run, RunUnits)
    assert [(unit.trial_id, unit.epoch) for unit in run.units] == [("t3", 1)]
