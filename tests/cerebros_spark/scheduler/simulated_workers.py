"""A simulated driver and workers that drive a scheduler and check its invariants."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

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
from cerebros_spark.core.types import (
    EpochResult,
    Phase,
    StateRef,
    Status,
    TrialResult,
    Unit,
    UnitFailure,
    UnitResult,
)
from cerebros_spark.scheduler.scheduler import Scheduler


def ref(name: str) -> StateRef:
    return StateRef(name, 1, name)


def result(worker: int, unit: Unit, seconds: float = 1.0) -> UnitResult:
    train = unit.phase is Phase.TRAIN
    state = ref(f"{unit.trial_id}/{unit.visit + 1}-{unit.attempt}") if train else None
    metrics = ((float(unit.partition), 1.0),)
    return UnitResult(unit, worker, state, metrics, 10, 0.0, seconds, 0, {})


def failure(
    worker: int, unit: Unit, retryable: bool = False, diverged: bool = False
) -> UnitFailure:
    return UnitFailure(unit, worker, "ValueError: no", "Traceback …", retryable, diverged)


@dataclass
class Model:
    """A trial's expected state, derived from the events alone."""

    index: int
    epochs: int
    state: StateRef
    epoch: int = 0
    visit: int = 0
    phase: Phase = Phase.TRAIN
    done: set[int] = field(default_factory=set)
    is_waiting: bool = False
    setbacks: Counter[int] = field(default_factory=Counter)
    status: Status = Status.RUNNING
    commits: list[Unit] = field(default_factory=list)
    group: str = ""

    @property
    def is_running(self) -> bool:
        return self.status is Status.RUNNING

    def enter(self, phase: Phase) -> None:
        self.phase = phase
        self.done = set()
        self.setbacks = Counter()


class Cluster:
    """Plays the driver and the workers, and checks the invariants.

    Events are queued until :meth:`flush`, which handles them together.
    """

    def __init__(
        self, partitions: int, *, reproducible: bool = False, max_attempts: int = 4
    ) -> None:
        self.partitions = partitions
        self.reproducible = reproducible
        self.max_attempts = max_attempts
        self.scheduler = self._new_scheduler()
        self.ready: set[int] = set()
        self.held: dict[int, list[Unit]] = {}
        self.ahead: dict[int, list[Unit]] = {}  # units assigned to busy workers
        self.requesting: set[int] = set()  # workers that have requested them
        self.late: list[tuple[int, Unit]] = []
        self.trials: dict[str, Model] = {}
        self.waiting: dict[str, EpochResult] = {}
        self.ended: dict[str, TrialResult] = {}
        self.keys: set[tuple[str, int, int]] = set()
        self.journal: list[Event] = []
        self.queue: list[Event] = []

    def _new_scheduler(self) -> Scheduler:
        return Scheduler(
            self.partitions, reproducible=self.reproducible, max_attempts=self.max_attempts
        )

    # Events ------------------------------------------------------------------------

    def start(self, worker: int) -> None:
        """Register a worker, perhaps as a new process of one that held units."""
        self._set_back(worker)
        self.ready.add(worker)
        self.queue.append(WorkerReady(worker))

    def request(self, worker: int) -> None:
        """Have a busy worker request more work."""
        self.requesting.add(worker)
        self.queue.append(WorkRequested(worker))

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
        event = result(worker, unit)
        self.queue.append(event)
        if self.trials[unit.trial_id].is_running:
            self._commit(event)

    def fail(self, worker: int, retryable: bool = False, diverged: bool = False) -> None:
        unit = self._reported(worker)
        self.queue.append(failure(worker, unit, retryable, diverged))
        stops = diverged and unit.epoch
        self._count(unit, not retryable, Status.STOPPED if stops else Status.FAILED)

    def answer(self, name: str, proceed: bool = True) -> None:
        del self.waiting[name]
        trial = self.trials[name]
        self._write(EpochAnswered(name, proceed))
        if not trial.is_running:
            return
        trial.is_waiting = False
        trial.epoch += 1
        trial.enter(Phase.TRAIN)
        if trial.epoch == trial.epochs:
            trial.status = Status.COMPLETED
        elif not proceed:
            trial.status = Status.STOPPED

    def end(self, event: TrialEnded) -> None:
        trial = self.trials[event.trial_id]
        self._write(event)
        if trial.is_running:
            trial.status = Status.STOPPED if event.error is None else Status.FAILED

    def repeat(self, worker: int, unit: Unit, how: int) -> None:
        """Repeat a report, or report from a worker that was given up."""
        if (worker, unit) not in self._assigned():
            report = failure(worker, unit, retryable=how == 1)
            self.queue.append(result(worker, unit) if how == 0 else report)

    def restart_driver(self, together: bool) -> None:
        """Replace the driver: replay the journal; workers have to register again."""
        self.flush()
        waiting, ended = self.waiting, self.ended
        self.late += [(worker, unit) for worker, unit in self._assigned()]
        self.scheduler = self._new_scheduler()
        self.ready, self.held, self.keys = set(), {}, set()
        self.ahead, self.requesting = {}, set()
        self.waiting, self.ended = {}, {}
        for trial in self.trials.values():
            trial.setbacks = Counter()
        for part in [self.journal] if together else [[event] for event in self.journal]:
            for instruction in self.scheduler.handle(*part):
                assert not isinstance(instruction, RunUnits)
                self._take(instruction)
        # The replay finishes all epochs again, also those that were answered.
        self.waiting = {
            name: done for name, done in self.waiting.items() if self.trials[name].is_waiting
        }
        assert self.waiting == {name: waiting[name] for name in self.waiting}
        assert {name: (e.status, e.finished_epochs) for name, e in self.ended.items()} == {
            name: (e.status, e.finished_epochs) for name, e in ended.items()
        }
        self._check()

    def flush(self) -> None:
        """Handle the queued events."""
        queue, self.queue = self.queue, []
        for instruction in self.scheduler.handle(*queue):
            self._take(instruction)
        self._check()

    # Expected state ---------------------------------------------------------

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
                trial.is_waiting = True

    def _reported(self, worker: int) -> Unit:
        """Remove and return the next unit that a worker reports."""
        unit = self.held[worker].pop(0)
        if not self.held[worker]:
            del self.held[worker]
            if worker in self.ahead:
                self.held[worker] = self.ahead.pop(worker)
        self.late.append((worker, unit))
        return unit

    def _set_back(self, worker: int) -> None:
        self.requesting.discard(worker)
        # Units that had not begun are not the cause.
        self.late += [(worker, unit) for unit in self.ahead.pop(worker, [])]
        while worker in self.held:
            self._count(self._reported(worker), fatal=False)

    def _assigned(self) -> Iterator[tuple[int, Unit]]:
        for batches in (self.held, self.ahead):
            yield from ((worker, unit) for worker, units in batches.items() for unit in units)

    def _count(self, unit: Unit, fatal: bool, status: Status = Status.FAILED) -> None:
        trial = self.trials[unit.trial_id]
        if not trial.is_running:
            return
        trial.setbacks[unit.partition] += 1
        if fatal or trial.setbacks[unit.partition] == self.max_attempts:
            trial.status = status
            self.journal.append(TrialEnded(unit.trial_id, "it failed"))

    def _take(self, instruction: RunUnits | EpochResult | TrialResult) -> None:
        if isinstance(instruction, RunUnits):
            self._take_units(instruction)
        elif isinstance(instruction, EpochResult):
            assert len(instruction.train) == self.partitions
            assert len(instruction.validation) == self.partitions
            self.waiting[instruction.trial_id] = instruction
        else:
            assert instruction.trial_id not in self.ended
            self.ended[instruction.trial_id] = instruction
            self.waiting.pop(instruction.trial_id, None)

    def _take_units(self, instruction: RunUnits) -> None:
        assert instruction.worker in self.ready
        if instruction.worker in self.held:
            assert instruction.worker in self.requesting, "a busy worker was assigned more"
        self.requesting.discard(instruction.worker)
        is_ahead = instruction.worker in self.held
        kinds = {(self.trials[u.trial_id].group, u.phase) for u in instruction.units}
        assert len(kinds) == 1
        if len(instruction.units) > 1:
            assert kinds.pop()[0], "trials of no group were put together"
            alone = [
                u.trial_id
                for u in instruction.units
                if self.trials[u.trial_id].setbacks[u.partition]
            ]
            assert not alone, "a unit with a setback was put with others"
        for unit in instruction.units:
            self._take_unit(instruction.worker, unit, self.ahead if is_ahead else self.held)

    def _take_unit(self, worker: int, unit: Unit, batches: dict[int, list[Unit]]) -> None:
        trial = self.trials[unit.trial_id]
        assert unit.partition == worker
        assert trial.is_running
        assert (unit.epoch, unit.phase, unit.visit) == (trial.epoch, trial.phase, trial.visit)
        assert unit.partition not in trial.done
        assert unit.state == trial.state, "a unit starts from a stale state"
        others = [u for _, u in self._assigned() if u.trial_id == unit.trial_id]
        if unit.phase is Phase.TRAIN:
            key = (unit.trial_id, unit.visit, unit.attempt)
            assert key not in self.keys, "two units would write the same state"
            self.keys.add(key)
            assert not others, "one trial on two workers"
        assert all(u.phase is Phase.VALIDATE for u in others)
        assert self.scheduler.expects(worker, unit)
        batches.setdefault(worker, []).append(unit)

    def _check(self) -> None:
        """Check what must hold whenever the scheduler has handled all events."""
        running = {name for name, trial in self.trials.items() if trial.is_running}
        assert set(self.scheduler.running) == running
        assert {name: end.status for name, end in self.ended.items()} == {
            name: trial.status for name, trial in self.trials.items() if name not in running
        }
        assert set(self.waiting) == {name for name in running if self.trials[name].is_waiting}
        if self.reproducible:
            return
        free = self.ready - self.held.keys()
        if not any(self.trials[name].group for name in running):  # these may wait for one another
            free |= self.requesting
        for worker in free:
            for name in running - self.waiting.keys():
                trial = self.trials[name]
                busy = {at for at, unit in self._assigned() if unit.trial_id == name}
                is_busy = worker in busy or (busy and trial.phase is Phase.TRAIN)
                assert is_busy or worker in trial.done, "a worker could have work"

    # Completion --------------------------------------------------------------------------

    def run_to_the_end(self) -> None:
        """Finish all trials without further incidents."""
        while len(self.ended) < len(self.trials):
            if self.waiting:
                self.answer(min(self.waiting))
            else:
                assert self.held, "nothing runs and nothing waits: a deadlock"
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
    """Turns numbers into moves. An impossible move is replaced by the next possible one."""

    MOVES = (
        *["finish"] * 20,
        *["answer"] * 4,
        *["start"] * 3,
        *["submit"] * 3,
        *["request"] * 8,
        *["repeat", "fail_retryable", "lose", "restart"] * 2,
        *["fail", "end", "restart_driver"],
    )

    def __init__(self, cluster: Cluster, epochs: Sequence[int], groups: Sequence[str]) -> None:
        self.cluster = cluster
        self.todo = [
            (index, many, groups[index % len(groups)]) for index, many in enumerate(epochs)
        ]

    def play(self, number: int) -> None:
        """Make a move; three times out of four, flush at once."""
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

    def _request(self, pick: int) -> bool:
        cluster = self.cluster
        busy = sorted(cluster.held.keys() - cluster.ahead.keys() - cluster.requesting)
        if busy:
            cluster.request(busy[pick % len(busy)])
        return bool(busy)

    def _answer(self, pick: int) -> bool:
        waiting = sorted(self.cluster.waiting)
        if waiting:
            self.cluster.answer(waiting[pick % len(waiting)], proceed=pick % 8 < 7)
        return bool(waiting)

    def _start(self, pick: int) -> bool:
        missing = sorted(set(range(self.cluster.partitions)) - self.cluster.ready)
        for worker in missing[: 1 + pick % 4]:
            self.cluster.start(worker)
        return bool(missing)

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

    def _fail_retryable(self, pick: int) -> bool:
        return self._fail(pick, retryable=True)

    def _lose(self, pick: int) -> bool:
        worker = pick % self.cluster.partitions
        self.cluster.lose(worker, "no sign of life" if pick % 3 else "")
        return True

    def _restart(self, pick: int) -> bool:
        self.cluster.start(pick % self.cluster.partitions)
        return True

    def _fail(self, pick: int, retryable: bool = False) -> bool:
        held = sorted(self.cluster.held)
        if held:
            self.cluster.fail(held[pick % len(held)], retryable=retryable)
        return bool(held)

    def _end(self, pick: int) -> bool:
        names = sorted(self.cluster.trials)
        if names:
            name = names[pick % len(names)]
            self.cluster.end(TrialEnded(name, "no") if pick % 2 else TrialEnded(name))
        return bool(names)

    def _restart_driver(self, pick: int) -> bool:
        self.cluster.restart_driver(together=pick % 2 == 1)
        return True
