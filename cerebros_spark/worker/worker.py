"""One worker: takes units, fetches states, trains, commits states, reports.

It holds one partition. The same code runs in a Spark task and in a thread of this process.
"""

from __future__ import annotations

import functools
import logging
import math
import time
import traceback
from collections import OrderedDict
from collections.abc import Callable, Sequence
from functools import cached_property

from cerebros_spark.core.errors import TrialError
from cerebros_spark.core.seeding import unit_seed
from cerebros_spark.core.types import (
    MetricState,
    Phase,
    StateRef,
    TrialSpec,
    Unit,
    UnitFailure,
    UnitResult,
)
from cerebros_spark.data.manifest import Shard
from cerebros_spark.data.shards import ShardData, open_shard
from cerebros_spark.runs.artifacts import make_state_ref, read_spec, read_state, state_key
from cerebros_spark.runs.worker_config import WorkerConfig
from cerebros_spark.training.base import Program, Trainer, create_trainer
from cerebros_spark.worker.durations import Durations
from cerebros_spark.worker.io_thread import Courier, Link, Report

logger = logging.getLogger("cerebros_spark")

_REST_SECONDS = 5.0
_REST_STEP = 0.5


class Worker:
    """Runs the units of one partition.

    Args:
        job: What the run is.
        number: The worker's number, which is that of its partition.
    """

    def __init__(self, job: WorkerConfig, number: int) -> None:
        self._job = job
        self._number = number
        self._trainers: dict[str, Trainer] = {}
        self._programs: OrderedDict[tuple[str, ...], Program] = OrderedDict()
        self._specs: dict[str, TrialSpec] = {}
        self._held: dict[str, str] = {}  # trial -> digest of the state its program holds
        self._states: dict[str, tuple[str, bytes]] = {}  # the last one of trials without program
        self._fetched: dict[str, tuple[str, bytes]] = {}  # states of units that are to come
        self._durations = Durations()
        self._pulse = 0
        self._running: Program | None = None
        self._steps_before = 0  # of the program that runs

    @property
    def progress(self) -> int:
        """A number that changes while work goes on; may be read from another thread.

        Until the first step of a unit (a shard is opened, a network is built and traced) only
        the processor's time tells that it does.
        """
        running = self._running
        steps = running.steps if running is not None else 0
        preparing = running is None or steps == self._steps_before
        return self._pulse + steps + (int(time.process_time()) if preparing else 0)

    def serve(self, link: Link) -> None:
        """Works until the run is over."""
        courier = Courier(link, self._prepare, self._expected)
        try:
            while (assignment := courier.next()) is not None:
                self._forget(assignment.forget)
                courier.deliver(self.run(assignment.units))
        finally:
            courier.stop()

    def run(self, units: tuple[Unit, ...]) -> Callable[[], list[Report]]:
        """Runs units together.

        Gives what writes their states and makes the reports; that may be called in another thread,
        while the next units are run. What goes wrong in one of their trials is reported, not
        raised.

        Raises:
            StoreError, DataError: If the shard can't be read: no trial can be trained here.
        """
        if not units:
            return list
        training = units[0].phase is Phase.TRAIN
        shard = self._train_shard if training else self._validation_shard
        self._pulse += 1
        try:
            return self._run(units, shard)
        except Exception as error:
            self._forget([unit.trial_id for unit in units])
            if len(units) > 1:
                # One of them may be at fault: the others are none the worse for it.
                parts = [self.run((unit,)) for unit in units]
                return lambda: [report for part in parts for report in part()]
            return functools.partial(self._came_to_nothing, units[0], error)
        finally:
            self._running = None
            self._pulse += 1

    def _prepare(self, units: tuple[Unit, ...]) -> None:
        """Fetches what units will need, while others run."""
        for unit in units:
            self._spec(unit.trial_id)
            kept = self._states.get(unit.trial_id, ("", b""))[0]
            if unit.state.sha256 not in (kept, self._held.get(unit.trial_id)):
                state = read_state(self._job.store, unit.state)
                self._fetched[unit.trial_id] = unit.state.sha256, state

    def _expected(self, units: tuple[Unit, ...]) -> tuple[float, float] | None:
        """Seconds that units will take, and by how many fewer it may be, if that is known."""
        if not units:
            return None
        return self._durations.expected([unit.trial_id for unit in units], units[0].phase)

    def _came_to_nothing(self, unit: Unit, error: Exception) -> list[Report]:
        # The store's fault is not the trial's: the unit may be run again.
        again = isinstance(error, OSError)
        if again and error.__cause__ is not None:
            self._rest(unit.attempt)
        return [self._failure(unit, error, again)]

    def _rest(self, attempt: int) -> None:
        """Gives a store that can't be reached time to come back, longer each time."""
        for _ in range(round(_REST_SECONDS * 2**attempt / _REST_STEP)):
            time.sleep(_REST_STEP)
            self._pulse += 1

    # A unit ------------------------------------------------------------------------------

    def _run(self, units: tuple[Unit, ...], shard: ShardData) -> Callable[[], list[Report]]:
        phase = units[0].phase
        watch = _Watch()
        self._running = program = self._program(units)
        resident = self._trainer(units).resident
        self._steps_before = program.steps
        traces = program.traces
        opening = watch.lap()
        hop = self._load(program, units, watch, resident)
        began = time.time()
        if phase is Phase.TRAIN:
            for unit in units:
                self._held.pop(unit.trial_id, None)
            metrics = program.train(shard, self._seeds(units))
        else:
            metrics = program.evaluate(shard)
        seconds = watch.lap()
        states = program.dump() if phase is Phase.TRAIN else []
        refs = [self._keep(u, state, resident) for u, state in zip(units, states, strict=False)]
        hop["dump"] = watch.lap()
        traced = program.traces - traces
        if not traced:
            self._durations.note([unit.trial_id for unit in units], phase, seconds)
        seconds += opening
        # Of what they took together each has its share, one after the other.
        share = seconds / len(units)
        hop = {name: taken / len(units) for name, taken in hop.items()}

        def report() -> list[Report]:
            told: list[Report] = []
            for number, unit in enumerate(units):
                own = dict(hop)
                watch = _Watch()
                try:
                    if refs:
                        self._job.store.write(refs[number].key, states[number])
                except Exception as error:
                    told += self._came_to_nothing(unit, error)
                    continue
                own["write"] = watch.lap()
                told.append(
                    self._report(
                        unit,
                        refs[number] if refs else None,
                        metrics[number],
                        shard.rows,
                        began - opening + number * share,
                        share,
                        traced if number == 0 else 0,
                        own,
                    )
                )
            return told

        return report

    def _load(
        self, program: Program, units: Sequence[Unit], watch: _Watch, resident: bool
    ) -> dict[str, float]:
        """Brings the program to the units' states; what is here already isn't fetched."""
        hop = {"fetch": 0.0, "set": 0.0, "dump": 0.0, "write": 0.0}
        held = (self._held.get(unit.trial_id) == unit.state.sha256 for unit in units)
        if resident and all(held):
            return hop
        states = [self._state(unit) for unit in units]
        hop["fetch"] = watch.lap()
        program.load(states)
        for unit in units:
            self._held[unit.trial_id] = unit.state.sha256
        hop["set"] = watch.lap()
        return hop

    def _state(self, unit: Unit) -> bytes:
        for known in (self._fetched.pop(unit.trial_id, None), self._states.get(unit.trial_id)):
            if known is not None and known[0] == unit.state.sha256:
                return known[1]
        return read_state(self._job.store, unit.state)

    def _keep(self, unit: Unit, state: bytes, resident: bool) -> StateRef:
        """Names a new state, and keeps in mind that it is here."""
        key = state_key(self._job, unit.trial_id, unit.visit + 1, unit.attempt)
        ref = make_state_ref(key, state)
        self._held[unit.trial_id] = ref.sha256
        if not resident:
            self._states[unit.trial_id] = ref.sha256, state
        return ref

    def _report(
        self,
        unit: Unit,
        state: StateRef | None,
        metrics: MetricState,
        rows: int,
        began: float,
        seconds: float,
        traces: int,
        hop: dict[str, float],
    ) -> Report:
        if metrics and not all(math.isfinite(value) for value in metrics[0]):
            # Which partition is validated first is chance, and the message is part of the result.
            where = f"validation of epoch {unit.epoch + 1}"
            if unit.phase is Phase.TRAIN:
                where = f"training of epoch {unit.epoch + 1} on partition {unit.partition}"
            error = TrialError(
                f"the loss is no longer a finite number in {where}; a lower learning rate or "
                "clipped gradients may help"
            )
            return self._failure(unit, error, diverged=True)
        return UnitResult(
            unit=unit,
            worker=self._number,
            state=state,
            metrics=metrics,
            rows=rows,
            began=began,
            seconds=seconds,
            traces=traces,
            hop_seconds=hop,
        )

    def _failure(
        self, unit: Unit, error: Exception, again: bool = False, diverged: bool = False
    ) -> UnitFailure:
        told = "".join(traceback.format_exception(error))
        name = type(error).__name__
        return UnitFailure(unit, self._number, f"{name}: {error}", told, again, diverged)

    def _seeds(self, units: Sequence[Unit]) -> list[int]:
        return [
            unit_seed(self._spec(unit.trial_id).seed, unit.trial_id, unit.epoch, unit.partition)
            for unit in units
        ]

    # What stays --------------------------------------------------------------------------

    @cached_property
    def _train_shard(self) -> ShardData:
        return self._open_shard(self._job.manifest.train[self._number])

    @cached_property
    def _validation_shard(self) -> ShardData:
        return self._open_shard(self._job.manifest.validation[self._number])

    def _open_shard(self, shard: Shard) -> ShardData:
        job = self._job
        # Half the budget each for the training and the validation shard.
        return open_shard(job.store, shard, job.manifest, job.layout, job.shard_memory // 2)

    def _spec(self, trial_id: str) -> TrialSpec:
        if trial_id not in self._specs:
            self._specs[trial_id] = read_spec(self._job.store, self._job.run_id, trial_id)
        return self._specs[trial_id]

    def _program(self, units: Sequence[Unit]) -> Program:
        """The units' program, opened at their first visit."""
        name = tuple(unit.trial_id for unit in units)
        if name in self._programs:
            self._programs.move_to_end(name)
            return self._programs[name]
        specs = [self._spec(unit.trial_id) for unit in units]
        trainer = self._trainer(units)
        program = self._open(trainer, specs)
        if trainer.resident:
            self._make_room(program.nbytes)
            self._programs[name] = program
        return program

    def _trainer(self, units: Sequence[Unit]) -> Trainer:
        name = self._spec(units[0].trial_id).trainer
        if name not in self._trainers:
            self._trainers[name] = create_trainer(name)
        return self._trainers[name]

    def _open(self, trainer: Trainer, specs: Sequence[TrialSpec]) -> Program:
        if not self._job.custom_objects:
            return trainer.open(specs)
        from cerebros_spark.training.keras.scopes import custom_object_scope

        with custom_object_scope(self._job.custom_objects):
            return trainer.open(specs)

    def _make_room(self, nbytes: int) -> None:
        total = nbytes + sum(program.nbytes for program in self._programs.values())
        gone = []
        for name, program in self._programs.items():
            if total <= self._job.program_memory:
                break
            total -= program.nbytes
            gone.append(name)
            logger.info("worker %d lets go of the program of %s", self._number, ", ".join(name))
        self._drop(gone)

    def _forget(self, trial_ids: Sequence[str]) -> None:
        gone = set(trial_ids)
        self._drop([name for name in self._programs if gone.intersection(name)], trial_ids)
        for trial_id in gone:
            self._specs.pop(trial_id, None)
            self._held.pop(trial_id, None)
            self._states.pop(trial_id, None)
            self._fetched.pop(trial_id, None)
            self._durations.forget(trial_id)

    def _drop(self, names: Sequence[tuple[str, ...]], trial_ids: Sequence[str] = ()) -> None:
        """Lets go of programs, and of their memory."""
        for name in names:
            del self._programs[name]
            for trial_id in name:
                self._held.pop(trial_id, None)
        for trainer in self._trainers.values():
            if names or not trainer.resident:
                trainer.release_memory(trial_ids)


class _Watch:
    """Seconds since the last look."""

    def __init__(self) -> None:
        self._last = time.perf_counter()

    def lap(self) -> float:
        now = time.perf_counter()
        seconds, self._last = now - self._last, now
        return seconds
