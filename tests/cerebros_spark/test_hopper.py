"""The scheduler, tried with random sequences of events."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cerebros_spark.errors import ProtocolError
from cerebros_spark.hopper import (
    EpochAnswered,
    EpochDone,
    Hopper,
    RunUnits,
    TrialDone,
    TrialStopped,
    TrialSubmitted,
    UnitDone,
    UnitFailed,
    WorkerLost,
    WorkerReady,
)
from cerebros_spark.types import Phase, StateRef, Status, Unit, UnitFailure, UnitResult


def ref(name: str) -> StateRef:
    return StateRef(name, 1, name)


def done(worker: int, unit: Unit, seconds: float = 1.0) -> UnitDone:
    train = unit.phase is Phase.TRAIN
    state = ref(f"{unit.trial_id}/{unit.visit + 1}-{unit.attempt}") if train else None
    metrics = ((float(unit.partition), 1.0),)
    return UnitDone(UnitResult(unit, worker, state, metrics, 10, 0.0, seconds, 0, {}))


class Cluster:
    """Plays the engine and the workers: keeps time, checks what must always hold."""

    def __init__(self, partitions: int, reproducible: bool = False) -> None:
        self.hopper = Hopper(partitions, reproducible=reproducible)
        self.partitions = partitions
        self.held: dict[int, Unit] = {}
        self.commits: list[Unit] = []
        self.states: dict[str, StateRef] = {}
        self.asked: dict[str, EpochDone] = {}
        self.ended: dict[str, TrialDone] = {}
        self.late: list[tuple[int, Unit]] = []
        self.keys: set[tuple[str, int, int]] = set()

    def tell(self, event: object) -> None:
        if isinstance(event, UnitDone) and self.hopper.expects(
            event.result.worker, event.result.unit
        ):
            self.commits.append(event.result.unit)
            if event.result.state is not None:
                self.states[event.result.unit.trial_id] = event.result.state
        for instruction in self.hopper.handle(event):
            if isinstance(instruction, RunUnits):
                self._hand_out(instruction)
            elif isinstance(instruction, EpochDone):
                assert len(instruction.train) == self.partitions
                assert len(instruction.validation) == self.partitions
                self.asked[instruction.trial_id] = instruction
            else:
                assert instruction.trial_id not in self.ended
                self.ended[instruction.trial_id] = instruction
                self.asked.pop(instruction.trial_id, None)

    def _hand_out(self, instruction: RunUnits) -> None:
        (unit,) = instruction.units
        assert instruction.worker not in self.held, "a busy worker was given more"
        assert unit.partition == instruction.worker
        assert unit.trial_id not in self.ended
        assert unit.state == self.states[unit.trial_id], "a unit starts from a stale state"
        others = [u for u in self.held.values() if u.trial_id == unit.trial_id]
        if unit.phase is Phase.TRAIN:
            key = (unit.trial_id, unit.visit, unit.attempt)
            assert key not in self.keys, "two units would write the same state"
            self.keys.add(key)
            assert not [u for u in others if self._counts(u)], "one trial on two workers"
        self.held[instruction.worker] = unit

    def _counts(self, unit: Unit) -> bool:
        return self.hopper.expects(unit.partition, unit)

    def submit(self, index: int, epochs: int) -> None:
        name = f"t{index}"
        self.states[name] = ref(f"{name}/0")
        self.tell(TrialSubmitted(name, index, epochs, ref(f"{name}/0")))

    def finish(self, worker: int) -> None:
        unit = self.held.pop(worker)
        self.late.append((worker, unit))
        self.tell(done(worker, unit))

    def lose(self, worker: int) -> None:
        if worker in self.held:
            self.late.append((worker, self.held.pop(worker)))
        self.tell(WorkerLost(worker))


@settings(max_examples=400, deadline=None, derandomize=True)
@given(st.data())
def test_every_trial_ends_and_every_visit_is_committed_once(data: st.DataObject) -> None:
    partitions = data.draw(st.integers(1, 4))
    epochs = data.draw(st.lists(st.integers(1, 3), min_size=1, max_size=6))
    cluster = Cluster(partitions, reproducible=data.draw(st.booleans()))
    away = set(range(partitions))
    todo = list(enumerate(epochs))
    stopped: set[str] = set()
    for _ in range(data.draw(st.integers(0, 60))):
        moves = ["ready", "submit", "finish", "finish", "answer", "lose", "late", "stop", "fail"]
        _move(data, cluster, data.draw(st.sampled_from(moves)), away, todo, stopped)
    # No more accidents: everything must come to its end.
    for worker in sorted(away):
        cluster.tell(WorkerReady(worker))
    for index, count in todo:
        cluster.submit(index, count)
    for _ in range(10_000):
        if len(cluster.ended) == len(epochs):
            break
        if cluster.asked:
            name = sorted(cluster.asked)[0]
            cluster.asked.pop(name)
            cluster.tell(EpochAnswered(name, True))
        else:
            assert cluster.held, "nothing runs, and nothing is asked: a deadlock"
            cluster.finish(sorted(cluster.held)[0])
    assert len(cluster.ended) == len(epochs)
    _check_commits(cluster, epochs)


def _move(
    data: st.DataObject,
    cluster: Cluster,
    move: str,
    away: set[int],
    todo: list[tuple[int, int]],
    stopped: set[str],
) -> None:
    if move == "ready" and away:
        worker = data.draw(st.sampled_from(sorted(away)))
        away.discard(worker)
        cluster.tell(WorkerReady(worker))
    elif move == "submit" and todo:
        cluster.submit(*todo.pop(0))
    elif move == "finish" and cluster.held:
        cluster.finish(data.draw(st.sampled_from(sorted(cluster.held))))
    elif move == "answer" and cluster.asked:
        name = data.draw(st.sampled_from(sorted(cluster.asked)))
        cluster.asked.pop(name)
        cluster.tell(EpochAnswered(name, data.draw(st.booleans())))
    elif move == "lose" and cluster.held:
        worker = data.draw(st.sampled_from(sorted(cluster.held)))
        cluster.lose(worker)
        away.add(worker)
    elif move == "late" and cluster.late:
        worker, unit = data.draw(st.sampled_from(cluster.late))
        before = len(cluster.commits)
        if cluster.held.get(worker) != unit:
            cluster.tell(done(worker, unit))
            assert len(cluster.commits) == before, "a late or repeated report was counted"
    elif move == "stop" and cluster.hopper.running:
        cluster.tell(TrialStopped(data.draw(st.sampled_from(sorted(cluster.hopper.running)))))
    elif move == "fail" and cluster.held:
        worker = data.draw(st.sampled_from(sorted(cluster.held)))
        unit = cluster.held.pop(worker)
        cluster.tell(UnitFailed(UnitFailure(unit, worker, "boom", "…")))


def _check_commits(cluster: Cluster, epochs: list[int]) -> None:
    for name, end in cluster.ended.items():
        mine = [u for u in cluster.commits if u.trial_id == name]
        visits = [(u.epoch, u.phase, u.partition) for u in mine]
        assert len(set(visits)) == len(visits), "a visit was committed twice"
        trained = [u for u in mine if u.phase is Phase.TRAIN]
        assert [u.visit for u in trained] == list(range(len(trained)))
        if end.status is Status.COMPLETED:
            full = epochs[int(name[1:])] * cluster.partitions
            assert len(trained) == full
            assert len(mine) == 2 * full


@settings(max_examples=60, deadline=None, derandomize=True)
@given(
    partitions=st.integers(1, 5),
    trials=st.integers(1, 8),
    epochs=st.integers(1, 3),
    validation=st.booleans(),
)
def test_with_equal_costs_the_makespan_is_near_the_floor(
    partitions: int, trials: int, epochs: int, validation: bool
) -> None:
    hopper = Hopper(partitions, validation=validation)
    running: dict[int, Unit] = {}
    asked: list[str] = []

    def tell(event: object) -> None:
        for instruction in hopper.handle(event):
            if isinstance(instruction, RunUnits):
                running[instruction.worker] = instruction.units[0]
            elif isinstance(instruction, EpochDone):
                asked.append(instruction.trial_id)

    for index in range(trials):
        tell(TrialSubmitted(f"t{index}", index, epochs, ref("s")))
    for worker in range(partitions):
        tell(WorkerReady(worker))
    clock = 0
    while running:
        clock += 1
        now = dict(running)
        running.clear()
        for worker, unit in now.items():
            tell(done(worker, unit))
        while asked:
            tell(EpochAnswered(asked.pop(), True))
    assert not hopper.running
    assert clock <= hopper.floor * 1.5 + 2


def test_reproducible_runs_visit_in_the_order_fixed_in_advance() -> None:
    cluster = Cluster(3, reproducible=True)
    for worker in range(3):
        cluster.tell(WorkerReady(worker))
    for index in range(2):
        cluster.submit(index, 2)
    while len(cluster.ended) < 2:
        if cluster.asked:
            cluster.tell(EpochAnswered(cluster.asked.popitem()[0], True))
        else:
            cluster.finish(max(cluster.held))  # an unusual timing
    for index in range(2):
        order = [
            u.partition
            for u in cluster.commits
            if u.trial_id == f"t{index}" and u.phase is Phase.TRAIN
        ]
        assert order == [(index + e + step) % 3 for e in range(2) for step in range(3)]


def test_a_lost_worker_costs_its_unit_alone() -> None:
    cluster = Cluster(2)
    cluster.submit(0, 1)
    cluster.tell(WorkerReady(0))
    first = cluster.held[0]
    cluster.lose(0)
    cluster.tell(WorkerReady(0))
    again = cluster.held[0]
    assert (again.epoch, again.partition, again.visit) == (0, 0, 0)
    assert (first.attempt, again.attempt) == (0, 1)


def test_a_failed_trial_leaves_the_others_running() -> None:
    cluster = Cluster(1)
    cluster.tell(WorkerReady(0))
    cluster.submit(0, 1)
    cluster.submit(1, 1)
    unit = cluster.held.pop(0)
    cluster.tell(UnitFailed(UnitFailure(unit, 0, "ValueError: no", "Traceback …")))
    assert cluster.ended[unit.trial_id].status is Status.FAILED
    assert cluster.ended[unit.trial_id].error == "ValueError: no"
    assert cluster.held[0].trial_id != unit.trial_id


def test_a_stopped_trial_keeps_its_worker_until_that_reports() -> None:
    cluster = Cluster(1)
    cluster.tell(WorkerReady(0))
    cluster.submit(0, 5)
    cluster.submit(1, 1)
    unit = cluster.held[0]
    cluster.tell(TrialStopped(unit.trial_id))
    assert cluster.ended[unit.trial_id].status is Status.STOPPED
    assert cluster.held[0] == unit
    cluster.finish(0)
    assert cluster.held[0].trial_id != unit.trial_id
    assert cluster.commits == []


def test_an_impossible_event_tells_the_story() -> None:
    hopper = Hopper(1)
    hopper.handle(TrialSubmitted("t0", 0, 1, ref("s")))
    with pytest.raises(ProtocolError, match=r"submitted twice[\s\S]*TrialSubmitted"):
        hopper.handle(TrialSubmitted("t0", 0, 1, ref("s")))
    with pytest.raises(ProtocolError, match="did not ask"):
        hopper.handle(EpochAnswered("t0", True))
    with pytest.raises(ProtocolError, match="no worker 7"):
        hopper.handle(WorkerReady(7))
