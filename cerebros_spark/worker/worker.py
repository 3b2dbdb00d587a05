"""Worker that runs the units of work of one partition and reports them.

The same code runs in a Spark task and in a thread of the driver's process.
"""

from __future__ import annotations

import functools
import logging
import math
import time
import traceback
from collections.abc import Callable, Sequence

from msgspec.structs import replace

from cerebros_spark.core.errors import TrialError
from cerebros_spark.core.seeding import derive_unit_seed
from cerebros_spark.core.types import (
    DriverLink,
    Phase,
    Report,
    StateRef,
    Unit,
    UnitFailure,
    UnitResult,
)
from cerebros_spark.data.folds import FoldShards
from cerebros_spark.data.shards import ShardData, open_shard
from cerebros_spark.runs.artifacts import make_state_ref, state_key
from cerebros_spark.runs.worker_config import WorkerConfig
from cerebros_spark.training.base import Program
from cerebros_spark.worker.cache import ProgramCache, StateCache
from cerebros_spark.worker.duration_estimator import DurationEstimator
from cerebros_spark.worker.io_thread import IoThread

logger = logging.getLogger(__name__)

_BACKOFF_STEP = 0.5


class Worker:
    """Worker that runs the units of one partition.

    Args:
        config: The workers' configuration.
        number: Index of the worker and of its partition.
        backoff: Seconds to wait for an unreachable store, doubled with each attempt at a unit.
            Defaults to 5.
    """

    def __init__(self, config: WorkerConfig, number: int, *, backoff: float = 5.0) -> None:
        self._config = config
        self._number = number
        self._backoff = backoff
        self._programs = ProgramCache(config, number)
        self._states = StateCache(config.store)
        self._durations = DurationEstimator()
        self._shards = FoldShards(self._open_shard)
        self._runs = 0
        self._running: Program | None = None
        self._steps_before = 0  # steps of the running program before its units

    @property
    def progress(self) -> int:
        """Number that changes while work proceeds; can be read from any thread.

        Before the first step of a unit, while a shard is opened or a network is built and traced,
        only CPU time shows progress.
        """
        running = self._running
        steps = running.steps if running is not None else 0
        is_preparing = running is None or steps == self._steps_before
        return self._runs + steps + (int(time.process_time()) if is_preparing else 0)

    def serve(self, link: DriverLink) -> None:
        """Serve the driver: run its assignments until the run has ended."""
        io_thread = IoThread(link, self._prefetch, self._estimate)
        try:
            while (assignment := io_thread.next_assignment()) is not None:
                self._remove_trials(assignment.ended_trials)
                io_thread.submit(self.run(assignment.units))
        finally:
            io_thread.stop()

    def run(self, units: tuple[Unit, ...]) -> Callable[[], list[Report]]:
        """Run units together; return a function that writes their states and returns the reports.

        Another thread may call the function while the next units run. A trial's errors are returned
        as UnitFailure reports.

        Raises:
            StoreError, DataError: If the shard cannot be read, so that no trial can run here.
        """
        if not units:
            return list
        phase = units[0].phase
        self._shards.get(phase)  # an error of the data is not one of the trial
        self._runs += 1
        try:
            spec = self._programs.get_spec(units[0].trial_id)
            return self._run(units, self._shards.get(phase, spec))
        except Exception as error:
            self._remove_trials([unit.trial_id for unit in units])
            if len(units) > 1:
                # Any unit may be the cause: run each alone.
                parts = [self.run((unit,)) for unit in units]
                return lambda: [report for part in parts for report in part()]
            return functools.partial(self._report_error, units[0], error)
        finally:
            self._running = None
            self._runs += 1

    # Ahead of a unit, in the I/O thread --------------------------------------------------

    def _prefetch(self, units: tuple[Unit, ...]) -> None:
        for unit in units:
            self._programs.get_spec(unit.trial_id)
            if not self._programs.holds_state_of(unit):
                self._states.prefetch(unit)

    def _estimate(self, units: tuple[Unit, ...]) -> tuple[float, float] | None:
        if not units:
            return None
        return self._durations.estimate([unit.trial_id for unit in units], units[0].phase)

    # Running -----------------------------------------------------------------------------

    def _run(self, units: tuple[Unit, ...], shard: ShardData) -> Callable[[], list[Report]]:
        phase = units[0].phase
        trial_ids = tuple(unit.trial_id for unit in units)
        watch = _Stopwatch()
        program, is_resident = self._programs.open(trial_ids)
        self._running = program
        self._steps_before, traces_before = program.steps, program.traces
        opening = watch.lap()
        hop = self._load(program, units, watch, is_resident)
        began = time.time() - opening
        checkpoints = [b""] * len(units)
        refs: list[StateRef | None] = [None] * len(units)
        if phase is Phase.TRAIN:
            for trial_id in trial_ids:
                self._programs.set_loaded(trial_id, None)
            metrics = program.train(shard, [self._seed(unit) for unit in units])
            seconds = watch.lap()
            checkpoints = program.dump()
            refs = [self._keep(*pair, is_resident) for pair in zip(units, checkpoints, strict=True)]
        else:
            metrics = program.evaluate(shard)
            seconds = watch.lap()
        hop["dump"] = watch.lap()
        traces = program.traces - traces_before
        if not traces:
            self._durations.record(trial_ids, phase, seconds)
        # Attribute an equal share of the time to each unit, one after the other.
        share = (seconds + opening) / len(units)
        hop = {name: taken / len(units) for name, taken in hop.items()}
        results = [
            UnitResult(
                unit=unit,
                worker=self._number,
                state=refs[number],
                metrics=metrics[number],
                rows=shard.rows,
                began=began + number * share,
                seconds=share,
                traces=traces if number == 0 else 0,
                hop_seconds=hop,
            )
            for number, unit in enumerate(units)
        ]
        return functools.partial(self._write_and_report, results, checkpoints)

    def _load(
        self, program: Program, units: Sequence[Unit], watch: _Stopwatch, is_resident: bool
    ) -> dict[str, float]:
        """Load the units' model states if the program lacks them; return seconds by operation."""
        hop = {"fetch": 0.0, "set": 0.0, "dump": 0.0, "write": 0.0}
        if is_resident and all(map(self._programs.holds_state_of, units)):
            return hop
        checkpoints = list(map(self._states.get, units))
        hop["fetch"] = watch.lap()
        program.load(checkpoints)
        for unit in units:
            self._programs.set_loaded(unit.trial_id, unit.state)
        hop["set"] = watch.lap()
        return hop

    def _keep(self, unit: Unit, checkpoint: bytes, is_resident: bool) -> StateRef:
        """Make a new model state available to the trial's next unit; return its reference."""
        key = state_key(self._config, unit.trial_id, unit.visit + 1, unit.attempt)
        ref = make_state_ref(key, checkpoint)
        self._programs.set_loaded(unit.trial_id, ref)
        if not is_resident:
            self._states.put(unit.trial_id, ref, checkpoint)
        return ref

    def _seed(self, unit: Unit) -> int:
        spec = self._programs.get_spec(unit.trial_id)
        return derive_unit_seed(spec.seed, unit.trial_id, unit.epoch, unit.partition)

    # Reports -----------------------------------------------------------------------------

    def _write_and_report(
        self, results: Sequence[UnitResult], checkpoints: Sequence[bytes]
    ) -> list[Report]:
        reports: list[Report] = []
        for result, checkpoint in zip(results, checkpoints, strict=True):
            watch = _Stopwatch()
            try:
                if result.state is not None:
                    self._config.store.write(result.state.key, checkpoint)
            except Exception as error:
                reports += self._report_error(result.unit, error)
                continue
            hop = {**result.hop_seconds, "write": watch.lap()}
            reports.append(self._check_finite(replace(result, hop_seconds=hop)))
        return reports

    def _check_finite(self, result: UnitResult) -> Report:
        """Return the result, or a failure if its loss is not finite."""
        if not result.metrics or all(math.isfinite(value) for value in result.metrics[0]):
            return result
        unit = result.unit
        # Which partition is validated first depends on timing, but the message must not.
        where = f"validation of epoch {unit.epoch + 1}"
        if unit.phase is Phase.TRAIN:
            where = f"training of epoch {unit.epoch + 1} on partition {unit.partition}"
        error = TrialError(
            f"the loss is no longer a finite number in {where}; a lower learning rate or "
            "clipped gradients may help"
        )
        return self._failure(unit, error, diverged=True)

    def _report_error(self, unit: Unit, error: Exception) -> list[Report]:
        # A store error is not caused by the trial: the unit may be retried.
        is_retryable = isinstance(error, OSError)
        if is_retryable and error.__cause__ is not None:
            self._back_off(unit.attempt)
        return [self._failure(unit, error, retryable=is_retryable)]

    def _back_off(self, attempt: int) -> None:
        """Wait before a unit is retried; the wait doubles with each attempt."""
        for _ in range(round(self._backoff * 2**attempt / _BACKOFF_STEP)):
            time.sleep(_BACKOFF_STEP)
            self._runs += 1

    def _failure(
        self, unit: Unit, error: Exception, *, retryable: bool = False, diverged: bool = False
    ) -> UnitFailure:
        message = f"{type(error).__name__}: {error}"
        trace = "".join(traceback.format_exception(error))
        return UnitFailure(unit, self._number, message, trace, retryable, diverged)

    # Data and caches ---------------------------------------------------------------------

    def _open_shard(self, phase: Phase) -> ShardData:
        config = self._config
        shards = config.manifest.train if phase is Phase.TRAIN else config.manifest.validation
        # The training and the validation shard get half of the budget each.
        memory = config.shard_memory // 2
        return open_shard(
            config.store,
            shards[self._number],
            config.manifest,
            config.layout,
            memory,
            config.reader,
        )

    def _remove_trials(self, trial_ids: Sequence[str]) -> None:
        self._programs.remove(trial_ids)
        for trial_id in trial_ids:
            self._states.remove(trial_id)
            self._durations.remove(trial_id)


class _Stopwatch:
    """Stopwatch that measures the seconds between laps."""

    def __init__(self) -> None:
        self._last = time.perf_counter()

    def lap(self) -> float:
        now = time.perf_counter()
        seconds, self._last = now - self._last, now
        return seconds
