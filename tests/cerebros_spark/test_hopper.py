"""The scheduler, tried with random sequences of events."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cerebros_spark.errors import ProtocolError
from cerebros_spark.hopper import (
    EpochAnswered,
    EpochDone,
    Event,
    Hopper,
    RunUnits,
    TrialDone,
    TrialFailed,
    TrialStopped,
    TrialSubmitted,
    UnitCommitted,
    UnitDone,
    UnitFailed,
    WorkerLost,
    WorkerReady,
)
from cerebros_spark.types import Phase, StateRef, Status, Unit, UnitFailure, UnitResult

# A change of the scheduler should see 10,000 of them.
EXAMPLES = int(os.environ.get("CEREBROS_EXAMPLES", "500"))


def ref(name: str) -> StateRef:
    return StateRef(name, 1, name)


def result(worker: int, unit: Unit, seconds: float = 1.0) -> UnitResult:
    train = unit.phase is Phase.TRAIN
    state = ref(f"{unit.trial_id}/{unit.visit + 1}-{unit.attempt}") if train else None
    metrics = ((float(unit.partition), 1.0),)
    return UnitResult(unit, worker, state, metrics, 10, 0.0, seconds, 0, {})


def done(worker: int, unit: Unit, seconds: float = 1.0) -> UnitDone:
    return UnitDone(result(worker, unit, seconds))


def failed(worker: int, unit: Unit, again: bool = False, diverged: bool = False) -> UnitFailed:
    failure = UnitFailure(unit, worker, "ValueError: no", "Traceback …", again, diverged)
    return UnitFailed(failure)


@dataclass
class Model:
    """What is known of a trial outside of the hopper: from the events alone."""

    index: int
    epochs: int
    state: StateRef
    epoch: int = 0
    visit: int = 0
    phase: Phase = Phase.TRAIN
    done: set[int] = field(default_factory=set)
    asks: bool = False
    setbacks: Counter[int] = field(default_factory=Counter)
    status: Status = Status.RUNNING
    commits: list[Unit] = field(default_factory=list)
    group: str = ""

    @property
    def lives(self) -> bool:
        return self.status is Status.RUNNING

    def enter(self, phase: Phase) -> None:
        self.phase = phase
        self.done = set()
        self.setbacks = Counter()


class Cluster:
    """Plays the driver and the workers, and checks what must always hold.

    Events wait in a queue until they are flushed: those that wait together are handled together.
    """

    def __init__(
        self, partitions: int, *, reproducible: bool = False, max_attempts: int = 4
    ) -> None:
        self.partitions = partitions
        self.reproducible = reproducible
        self.max_attempts = max_attempts
        self.hopper = self._new_hopper()
        self.ready: set[int] = set()
        self.held: dict[int, list[Unit]] = {}
        self.late: list[tuple[int, Unit]] = []
        self.trials: dict[str, Model] = {}
        self.asked: dict[str, EpochDone] = {}
        self.ended: dict[str, TrialDone] = {}
        self.keys: set[tuple[str, int, int]] = set()
        self.journal: list[Event] = []
        self.queue: list[Event] = []

    def _new_hopper(self) -> Hopper:
        return Hopper(
            self.partitions, reproducible=self.reproducible, max_attempts=self.max_attempts
        )

    # What happens ------------------------------------------------------------------------

    def start(self, worker: int) -> None:
        """A worker registers, maybe as another incarnation of one that had a unit."""
        self._set_back(worker)
        self.ready.add(worker)
        self.queue.append(WorkerReady(worker))

    def lose(self, worker: int, reason: str = "") -> None:
        self._set_back(worker)
        self.ready.discard(worker)
        self.queue.append(WorkerLost(worker, reason))

    def submit(self, index: int, epochs: int, group: str = "") -> None:
        name = f"t{index}"
        self.trials[name] = Model(index, epochs, ref(f"{name}/0"), group=group)
        self._write(TrialSubmitted(name, index, epochs, ref(f"{name}/0"), group))

    def finish(self, worker: int) -> None:
        unit = self._reported(worker)
        event = done(worker, unit)
        self.queue.append(event)
        if self.trials[unit.trial_id].lives:
            self._commit(event.result)

    def fail(self, worker: int, again: bool = False, diverged: bool = False) -> None:
        unit = self._reported(worker)
        self.queue.append(failed(worker, unit, again, diverged))
        stops = diverged and unit.epoch
        self._count(unit, not again, Status.STOPPED if stops else Status.FAILED)

    def answer(self, name: str, proceed: bool = True) -> None:
        del self.asked[name]
        trial = self.trials[name]
        self._write(EpochAnswered(name, proceed))
        if not trial.lives:
            return
        trial.asks = False
        trial.epoch += 1
        trial.enter(Phase.TRAIN)
        if trial.epoch == trial.epochs:
            trial.status = Status.COMPLETED
        elif not proceed:
            trial.status = Status.STOPPED

    def end(self, event: TrialStopped | TrialFailed) -> None:
        trial = self.trials[event.trial_id]
        self._write(event)
        if trial.lives:
            stopped = isinstance(event, TrialStopped)
            trial.status = Status.STOPPED if stopped else Status.FAILED

    def repeat(self, worker: int, unit: Unit, how: int) -> None:
        """A report comes twice, or from a worker that was given up for dead."""
        if unit not in self.held.get(worker, ()):
            again = failed(worker, unit, again=how == 1)
            self.queue.append(done(worker, unit) if how == 0 else again)

    def restart_driver(self, together: bool) -> None:
        """The driver dies: the journal is replayed, and the workers have to register again."""
        self.flush()
        asked, ended = self.asked, self.ended
        self.late += [(worker, unit) for worker, units in self.held.items() for unit in units]
        self.hopper = self._new_hopper()
        self.ready, self.held, self.keys = set(), {}, set()
        self.asked, self.ended = {}, {}
        for trial in self.trials.values():
            trial.setbacks = Counter()
        for part in [self.journal] if together else [[event] for event in self.journal]:
            for instruction in self.hopper.handle(*part):
                assert not isinstance(instruction, RunUnits)
                self._take(instruction)
        # The replay asks all epochs again; those that were answered are the past.
        self.asked = {name: done for name, done in self.asked.items() if self.trials[name].asks}
        assert self.asked == {name: asked[name] for name in self.asked}
        assert {name: (e.status, e.epochs) for name, e in self.ended.items()} == {
            name: (e.status, e.epochs) for name, e in ended.items()
        }
        self._check()

    def flush(self) -> None:
        """Hands the events that wait to the hopper."""
        queue, self.queue = self.queue, []
        for instruction in self.hopper.handle(*queue):
            self._take(instruction)
        self._check()

    # What is to be thought of it ---------------------------------------------------------

    def _write(self, event: Event) -> None:
        self.queue.append(event)
        self.journal.append(event)

    def _commit(self, result: UnitResult) -> None:
        unit = result.unit
        trial = self.trials[unit.trial_id]
        self.journal.append(UnitCommitted(result))
        assert (unit.epoch, unit.phase) == (trial.epoch, trial.phase)
        assert unit.partition not in trial.done, "a visit was committed twice"
        trial.done.add(unit.partition)
        trial.commits.append(unit)
        if result.state is not None:
            assert unit.visit == trial.visit
            trial.visit += 1
            trial.state = result.state
        if len(trial.done) == self.partitions:
            if unit.phase is Phase.TRAIN:
                trial.enter(Phase.VALIDATE)
            else:
                trial.asks = True

    def _reported(self, worker: int) -> Unit:
        """The next of the units that a worker runs together; they are reported in turn."""
        unit = self.held[worker].pop(0)
        if not self.held[worker]:
            del self.held[worker]
        self.late.append((worker, unit))
        return unit

    def _set_back(self, worker: int) -> None:
        while worker in self.held:
            self._count(self._reported(worker), fatal=False)

    def _count(self, unit: Unit, fatal: bool, status: Status = Status.FAILED) -> None:
        trial = self.trials[unit.trial_id]
        if not trial.lives:
            return
        trial.setbacks[unit.partition] += 1
        if fatal or trial.setbacks[unit.partition] == self.max_attempts:
            trial.status = status
            self.journal.append(TrialFailed(unit.trial_id, "it failed"))

    def _take(self, instruction: RunUnits | EpochDone | TrialDone) -> None:
        if isinstance(instruction, RunUnits):
            self._take_units(instruction)
        elif isinstance(instruction, EpochDone):
            assert len(instruction.train) == self.partitions
            assert len(instruction.validation) == self.partitions
            self.asked[instruction.trial_id] = instruction
        else:
            assert instruction.trial_id not in self.ended
            self.ended[instruction.trial_id] = instruction
            self.asked.pop(instruction.trial_id, None)

    def _take_units(self, instruction: RunUnits) -> None:
        assert instruction.worker in self.ready
        assert instruction.worker not in self.held, "a busy worker was given more"
        kinds = {(self.trials[u.trial_id].group, u.phase) for u in instruction.units}
        assert len(kinds) == 1
        if len(instruction.units) > 1:
            assert kinds.pop()[0], "trials of no group were put together"
            alone = [
                u.trial_id
                for u in instruction.units
                if self.trials[u.trial_id].setbacks[u.partition]
            ]
            assert not alone, "a unit that came to nothing was put with others"
        for unit in instruction.units:
            self._take_unit(instruction.worker, unit)

    def _take_unit(self, worker: int, unit: Unit) -> None:
        trial = self.trials[unit.trial_id]
        assert unit.partition == worker
        assert trial.lives
        assert (unit.epoch, unit.phase, unit.visit) == (trial.epoch, trial.phase, trial.visit)
        assert unit.partition not in trial.done
        assert unit.state == trial.state, "a unit starts from a stale state"
        others = [u for units in self.held.values() for u in units if u.trial_id == unit.trial_id]
        if unit.phase is Phase.TRAIN:
            key = (unit.trial_id, unit.visit, unit.attempt)
            assert key not in self.keys, "two units would write the same state"
            self.keys.add(key)
            assert not others, "one trial on two workers"
        assert all(u.phase is Phase.VALIDATE for u in others)
        assert self.hopper.expects(worker, unit)
        self.held.setdefault(worker, []).append(unit)

    def _check(self) -> None:
        """What must hold whenever the hopper has handled everything."""
        living = {name for name, trial in self.trials.items() if trial.lives}
        assert set(self.hopper.running) == living
        assert {name: end.status for name, end in self.ended.items()} == {
            name: trial.status for name, trial in self.trials.items() if name not in living
        }
        assert set(self.asked) == {name for name in living if self.trials[name].asks}
        if self.reproducible:
            return
        for worker in self.ready - self.held.keys():
            for name in living - self.asked.keys():
                trial = self.trials[name]
                waits = trial.phase is Phase.TRAIN and any(
                    unit.trial_id == name for units in self.held.values() for unit in units
                )
                assert waits or worker in trial.done, "an idle worker could work"

    # To the end --------------------------------------------------------------------------

    def run_to_the_end(self) -> None:
        """No more accidents: everything must come to its end."""
        while len(self.ended) < len(self.trials):
            if self.asked:
                self.answer(min(self.asked))
            else:
                assert self.held, "nothing runs, and nothing is asked: a deadlock"
                self.finish(min(self.held))
            self.flush()

    def check_commits(self) -> None:
        for name, trial in self.trials.items():
            assert self.ended[name].status is trial.status
            trained = [u for u in trial.commits if u.phase is Phase.TRAIN]
            assert [u.visit for u in trained] == list(range(len(trained)))
            places = [(u.epoch, u.phase, u.partition) for u in trial.commits]
            assert len(set(places)) == len(places), "a visit was committed twice"
            if trial.status is Status.COMPLETED:
                assert len(places) == 2 * trial.epochs * self.partitions
                assert len(trained) == trial.epochs * self.partitions
            if self.reproducible:
                for u in trained:
                    step = u.visit % self.partitions
                    assert u.partition == (trial.index + u.epoch + step) % self.partitions


class Player:
    """Makes moves of numbers. Instead of a move that can't be made now, the next one is."""

    MOVES = (
        *["finish"] * 20,
        *["answer"] * 4,
        *["start"] * 3,
        *["submit"] * 3,
        *["repeat", "fail_again", "lose", "restart"] * 2,
        *["fail", "end", "restart_driver"],
    )

    def __init__(self, cluster: Cluster, epochs: Sequence[int], groups: Sequence[str]) -> None:
        self.cluster = cluster
        self.todo = [
            (index, many, groups[index % len(groups)]) for index, many in enumerate(epochs)
        ]

    def play(self, number: int) -> None:
        """Makes a move; three times of four the hopper hears of it at once."""
        number, first = divmod(number, len(self.MOVES))
        pick, flush = divmod(number, 4)
        for move in (*self.MOVES[first:], *self.MOVES[:first]):
            if getattr(self, f"_{move}")(pick):
                break
        if flush:
            self.cluster.flush()

    def _finish(self, pick: int) -> bool:
        held = sorted(self.cluster.held)
        if held:
            self.cluster.finish(held[pick % len(held)])
        return bool(held)

    def _answer(self, pick: int) -> bool:
        asked = sorted(self.cluster.asked)
        if asked:
            self.cluster.answer(asked[pick % len(asked)], proceed=pick % 8 < 7)
        return bool(asked)

    def _start(self, pick: int) -> bool:
        away = sorted(set(range(self.cluster.partitions)) - self.cluster.ready)
        for worker in away[: 1 + pick % 4]:
            self.cluster.start(worker)
        return bool(away)

    def _submit(self, pick: int) -> bool:
        count = min(len(self.todo), 1 + pick % 3)
        for _ in range(count):
            self.cluster.submit(*self.todo.pop(0))
        return bool(count)

    def _repeat(self, pick: int) -> bool:
        late = self.cluster.late
        if late:
            self.cluster.repeat(*late[pick % len(late)], how=pick % 3)
        return bool(late)

    def _fail_again(self, pick: int) -> bool:
        return self._fail(pick, again=True)

    def _lose(self, pick: int) -> bool:
        worker = pick % self.cluster.partitions
        self.cluster.lose(worker, "no sign of life" if pick % 3 else "")
        return True

    def _restart(self, pick: int) -> bool:
        self.cluster.start(pick % self.cluster.partitions)
        return True

    def _fail(self, pick: int, again: bool = False) -> bool:
        held = sorted(self.cluster.held)
        if held:
            self.cluster.fail(held[pick % len(held)], again=again)
        return bool(held)

    def _end(self, pick: int) -> bool:
        names = sorted(self.cluster.trials)
        if names:
            name = names[pick % len(names)]
            self.cluster.end(TrialFailed(name, "no") if pick % 2 else TrialStopped(name))
        return bool(names)

    def _restart_driver(self, pick: int) -> bool:
        self.cluster.restart_driver(together=pick % 2 == 1)
        return True


NUMBERS = st.integers(0, 4 * len(Player.MOVES) * 30 - 1)


@settings(
    max_examples=EXAMPLES,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow],
)
@given(
    partitions=st.integers(1, 4),
    epochs=st.lists(st.integers(1, 4), min_size=1, max_size=8),
    reproducible=st.booleans(),
    max_attempts=st.integers(1, 4),
    groups=st.sampled_from([("",), ("a",), ("a", "b"), ("", "a", "a")]),
    # Of a list that may be short Hypothesis makes short ones only.
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
    """Steps to train trials whose units all take one step; what ends together is told together."""
    hopper = Hopper(partitions, validation=validation)
    running: dict[int, Unit] = {}
    asked: list[str] = []

    def tell(events: Sequence[Event]) -> None:
        for instruction in hopper.handle(*events):
            if isinstance(instruction, RunUnits):
                running[instruction.worker] = instruction.units[0]
            elif isinstance(instruction, EpochDone):
                asked.append(instruction.trial_id)

    submitted = [
        TrialSubmitted(f"t{index}", index, count, ref("s")) for index, count in enumerate(epochs)
    ]
    tell([*submitted, *map(WorkerReady, range(partitions))])
    clock = 0
    while running:
        clock += 1
        ended = sorted(running.items())
        running.clear()
        tell([done(worker, unit) for worker, unit in ended])
        while asked:
            answers = [EpochAnswered(name, True) for name in asked]
            asked.clear()
            tell(answers)
    assert not hopper.running
    return clock


def least(epochs: Sequence[int], partitions: int, validation: bool) -> int:
    """The busiest partition's work, or the longest trial's if that is more."""
    phases = 2 if validation else 1
    return phases * max(sum(epochs), max(epochs) * partitions)


@pytest.mark.parametrize("partitions", range(1, 9))
@pytest.mark.parametrize("validation", [True, False])
def test_with_equal_costs_the_makespan_is_the_least_that_can_be(
    partitions: int, validation: bool
) -> None:
    for trials in range(1, 17):
        for count in (1, 2, 3, 6):
            epochs = [count] * trials
            assert makespan(epochs, partitions, validation) <= least(
                epochs, partitions, validation
            ), f"{trials} trials of {count} epochs"


@settings(max_examples=150, deadline=None, derandomize=True)
@given(
    partitions=st.integers(1, 8),
    epochs=st.lists(st.integers(1, 6), min_size=1, max_size=16),
    validation=st.booleans(),
)
def test_with_different_epochs_a_trial_loses_a_step_an_answer_at_most(
    partitions: int, epochs: list[int], validation: bool
) -> None:
    # While a trial waits for its answer the workers go on with the others, and are busy when
    # the answer has come.
    slack = max(1, max(epochs) - 1)
    assert makespan(epochs, partitions, validation) <= least(epochs, partitions, validation) + slack


# Each rule by itself ---------------------------------------------------------------------


def cluster_of(
    partitions: int, epochs: Sequence[int], *, reproducible: bool = False, max_attempts: int = 4
) -> Cluster:
    """A cluster of which all workers are ready and all trials submitted."""
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
        if cluster.asked:
            cluster.answer(max(cluster.asked))
        else:
            cluster.finish(max(cluster.held))  # an unusual timing
        cluster.flush()
    for index in range(2):
        commits = cluster.trials[f"t{index}"].commits
        order = [u.partition for u in commits if u.phase is Phase.TRAIN]
        assert order == [(index + e + step) % 3 for e in range(2) for step in range(3)]


def test_a_lost_worker_costs_its_unit_alone() -> None:
    cluster = cluster_of(1, [1])
    first = cluster.held[0][0]
    cluster.lose(0)
    cluster.start(0)
    cluster.flush()
    again = cluster.held[0][0]
    assert (again.epoch, again.partition, again.visit) == (0, 0, 0)
    assert (first.attempt, again.attempt) == (0, 1)


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
        for name in list(cluster.asked):
            cluster.answer(name)
            cluster.flush()
    cluster.fail(0, diverged=True)
    cluster.flush()
    end = cluster.ended["t0"]
    assert (end.status, end.epochs, end.error) == (status, epochs_before, "ValueError: no")


def test_a_unit_that_may_succeed_is_run_again_but_not_for_ever() -> None:
    cluster = cluster_of(1, [1], max_attempts=3)
    for attempt in range(3):
        assert not cluster.ended
        assert cluster.held[0][0].attempt == attempt
        cluster.fail(0, again=True)
        cluster.flush()
    end = cluster.ended["t0"]
    assert (end.status, end.error) == (Status.FAILED, "ValueError: no")
    assert end.traceback == "Traceback …"


def test_a_trial_that_kills_workers_ends() -> None:
    cluster = cluster_of(1, [2, 1])
    while cluster.held[0][0].epoch == 0:
        cluster.finish(0)
        cluster.flush()
        for name in list(cluster.asked):
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
    cluster.fail(0, again=True)
    cluster.flush()
    cluster.start(0)
    cluster.flush()
    error = cluster.ended["t0"].error or ""
    assert error.startswith("the worker died in 1 of 2 attempts to train epoch 1 on partition 0")
    assert "it was restarted" in error


def test_a_stopped_trial_keeps_its_worker_until_that_reports() -> None:
    cluster = cluster_of(1, [5, 1])
    unit = cluster.held[0][0]
    cluster.end(TrialStopped(unit.trial_id))
    cluster.flush()
    assert cluster.ended[unit.trial_id].status is Status.STOPPED
    assert cluster.held[0][0] == unit
    cluster.finish(0)
    cluster.flush()
    assert cluster.held[0][0].trial_id != unit.trial_id
    assert cluster.trials[unit.trial_id].commits == []


def test_the_driver_may_give_a_trial_up() -> None:
    hopper = Hopper(1)
    hopper.handle(TrialSubmitted("t0", 0, 1, ref("s")))
    (end,) = hopper.handle(TrialFailed("t0", "no metrics", "Traceback …"))
    assert end == TrialDone("t0", Status.FAILED, 0, 0.0, "no metrics", "Traceback …")
    assert hopper.handle(TrialFailed("t0", "again")) == []


def test_a_journal_is_replayed_without_workers() -> None:
    start = TrialSubmitted("t0", 0, 2, ref("t0/0"))
    train = Unit("t0", 0, Phase.TRAIN, 0, 0, 2, ref("t0/0"))
    validate = Unit("t0", 0, Phase.VALIDATE, 0, 1, 0, ref("t0/1-2"))
    hopper = Hopper(1)
    assert hopper.handle(start) == []
    assert hopper.handle(UnitCommitted(result(0, train))) == []
    (asks,) = hopper.handle(UnitCommitted(result(0, validate)))
    assert isinstance(asks, EpochDone)
    assert (asks.epoch, asks.state, asks.rows) == (0, ref("t0/1-2"), 20)
    assert hopper.handle(EpochAnswered("t0", True)) == []
    (run,) = hopper.handle(WorkerReady(0))
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
def test_a_journal_that_does_not_fit_is_refused(unit: Unit, reproducible: bool) -> None:
    hopper = Hopper(2, reproducible=reproducible)
    hopper.handle(TrialSubmitted("t0", 0, 2, ref("s")))
    with pytest.raises(ProtocolError, match=r"no trial 't9'|out of turn"):
        hopper.handle(UnitCommitted(result(0, unit)))


def test_a_unit_that_runs_or_is_committed_is_not_committed_again() -> None:
    unit = Unit("t0", 0, Phase.TRAIN, 0, 0, 0, ref("s"))
    hopper = Hopper(1)
    hopper.handle(TrialSubmitted("t0", 0, 1, ref("s")), UnitCommitted(result(0, unit)))
    with pytest.raises(ProtocolError, match="out of turn"):
        hopper.handle(UnitCommitted(result(0, unit)))
    hopper = Hopper(1)
    hopper.handle(TrialSubmitted("t0", 0, 1, ref("s")), WorkerReady(0))
    with pytest.raises(ProtocolError, match="out of turn"):
        hopper.handle(UnitCommitted(result(0, unit)))


def test_events_that_arrive_together_are_scheduled_together() -> None:
    hopper = Hopper(2)
    # One by one the short trial would have got the worker before the long one was known.
    instructions = hopper.handle(
        WorkerReady(0),
        TrialSubmitted("short", 0, 1, ref("s")),
        TrialSubmitted("long", 1, 3, ref("s")),
    )
    assert [i.units[0].trial_id for i in instructions if isinstance(i, RunUnits)] == ["long"]


def test_an_impossible_event_tells_the_story() -> None:
    hopper = Hopper(1)
    hopper.handle(TrialSubmitted("t0", 0, 1, ref("s")))
    with pytest.raises(ProtocolError, match=r"submitted twice[\s\S]*TrialSubmitted"):
        hopper.handle(TrialSubmitted("t0", 0, 1, ref("s")))
    with pytest.raises(ProtocolError, match="did not ask"):
        hopper.handle(EpochAnswered("t0", True))
    with pytest.raises(ProtocolError, match="no worker 7"):
        hopper.handle(WorkerReady(7))


# Groups ----------------------------------------------------------------------------------


def handed_out(groups: Sequence[str], workers: int) -> list[list[str]]:
    """The trials that each worker is given first."""
    hopper = Hopper(workers)
    submitted = [TrialSubmitted(f"t{i}", i, 1, ref(f"t{i}"), g) for i, g in enumerate(groups)]
    events = [*submitted, *(WorkerReady(worker) for worker in range(workers))]
    told = [i for i in hopper.handle(*events) if isinstance(i, RunUnits)]
    return [[unit.trial_id for unit in instruction.units] for instruction in told]


def test_trials_of_a_group_are_given_out_together_half_a_share_at_a_time():
    assert [len(units) for units in handed_out(["a"] * 8, workers=2)] == [2, 2]
    assert [len(units) for units in handed_out(["a"] * 80, workers=2)] == [16, 16]
    assert handed_out(["a"] * 2, workers=2) == [["t0"], ["t1"]]


def test_only_trials_of_one_group_are_put_together():
    (one,) = handed_out(["a", "b", "a", "", "a", "a"], workers=1)
    assert one == ["t0", "t2"]
    (alone,) = handed_out(["", "", "", ""], workers=1)
    assert alone == ["t0"]


def test_a_unit_that_killed_its_worker_is_run_alone():
    cluster = Cluster(1)
    for index in range(4):
        cluster.submit(index, 1, "a")
    cluster.start(0)
    cluster.flush()
    assert len(cluster.held[0]) == 2
    cluster.lose(0)
    cluster.start(0)
    cluster.flush()
    for _ in range(2):
        units = cluster.held[0]
        assert len(units) == 1 or not any(
            cluster.trials[unit.trial_id].setbacks[0] for unit in units
        )
        while 0 in cluster.held and cluster.held[0] is units:
            cluster.finish(0)
        cluster.flush()
