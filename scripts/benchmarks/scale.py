#!/usr/bin/env python3
"""Measure how far the driver scales: the real scheduler and journal, with simulated workers.

Trials differ in cost (log-normal, sigma 0.5), workers in speed (by 1 %) and units by chance (by
20 %). The clock is simulated, but the driver's own time is real: a report waits until the driver
has processed those before it, and a worker waits for the answer, so a slow driver leaves workers
idle. Nothing is trained and no state is written. The journal is in memory.
"""

from __future__ import annotations

import argparse
import heapq
import itertools
import os
import random
import resource
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

# The parent folder has the modules that all scripts share.
sys.path.insert(0, str(Path(__file__).parents[1]))

import _common
import msgspec

from cerebros_spark.core.events import (
    EpochAnswered,
    Event,
    RunUnits,
    TrialSubmitted,
    WorkerReady,
    WorkRequested,
)
from cerebros_spark.core.types import EpochResult, Phase, StateRef, TrialResult, Unit, UnitResult
from cerebros_spark.runs.journal import Journal
from cerebros_spark.scheduler.scheduler import Scheduler
from cerebros_spark.storage.local import LocalStore


def main() -> None:
    """Run each size and print one table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--sizes",
        default="10x100,30x300,100x1000",
        help="workers x trials, comma-separated (%(default)s)",
    )
    parser.add_argument(
        "--in-flight", type=int, default=10, help="trials in flight per worker (%(default)s)"
    )
    parser.add_argument("--epochs", type=int, default=1, help="epochs of a trial (%(default)s)")
    parser.add_argument("--seconds", type=float, default=10.0, help="mean seconds of a unit")
    parser.add_argument("--validation", action="store_true", help="validate each epoch")
    parser.add_argument(
        "--ahead",
        type=float,
        default=0.0,
        help="how early a worker requests its next unit, as a share of a unit (%(default)s)",
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--repeats", type=int, default=1, help="runs with different seeds; medians are shown"
    )
    parser.add_argument("--folder", default="/dev/shm", help="folder of the journal (%(default)s)")
    parser.add_argument("--json", metavar="FILE", help="also write the figures to FILE")
    args = parser.parse_args()
    rows: list[tuple[str, Any, str]] = []
    for size in args.sizes.split(","):
        workers, trials = map(int, size.split("x"))
        runs = []
        for seed in range(args.seed, args.seed + args.repeats):
            with tempfile.TemporaryDirectory(dir=args.folder) as folder:
                simulation = Simulation(workers, trials, seed, args, folder)
                simulation.run()
                runs.append(list(simulation.figures()))
        rows += [(f"{size}: {name}", *rest) for name, *rest in _common.medians(runs)]
    _common.show("scale", rows, args.json)


class Simulation:
    """One search; a heap holds when units end and when workers ask for more."""

    def __init__(
        self, workers: int, trials: int, seed: int, args: argparse.Namespace, folder: str
    ) -> None:
        self._workers = workers
        self._left = iter(range(trials))
        self._args = args
        self._random = random.Random(seed)
        self._speeds = [self._random.uniform(0.99, 1.01) for _ in range(workers)]
        self._costs: dict[str, float] = {}
        self._store = LocalStore(folder)
        self._journal = Journal(self._store, "scale")
        self._scheduler = Scheduler(workers, validation=args.validation)
        self._to_come: list[tuple[float, int, UnitResult | WorkRequested]] = []
        self._free = [0.0] * workers  # when a worker finishes its assigned units
        self._numbers = itertools.count()
        self._now = 0.0  # by the driver's clock
        self._busy = 0.0
        self._decisions: list[float] = []
        self._driving = 0.0
        self._units = 0

    def run(self) -> None:
        """Run until the last trial is finished."""
        self._memory_before = _resident()
        self._handle(*(WorkerReady(worker) for worker in range(self._workers)))
        for _ in range(self._args.in_flight * self._workers):
            self._submit()
        while self._to_come:
            when, _, event = heapq.heappop(self._to_come)
            self._now = max(self._now, when)
            if isinstance(event, UnitResult):
                began = time.perf_counter()
                self._journal.append("unit", **msgspec.structs.asdict(event))
                self._journal.commit()
                self._spend(time.perf_counter() - began)
                self._units += 1
            self._handle(event)
        self._journal.commit()
        if self._scheduler.running:
            raise RuntimeError(f"{len(self._scheduler.running)} trials did not finish")

    def figures(self) -> Iterator[tuple[str, Any, str]]:
        """Return the rows of the table."""
        decisions = sorted(self._decisions)
        journal = self._store.digest("runs/scale/journal.jsonl")[0]
        yield "units", self._units, ""
        yield "busy", 100 * self._busy / (self._workers * self._now), "%"
        yield "makespan / floor", self._now / self._scheduler.floor, ""
        yield "a decision, mean", 1e3 * sum(decisions) / len(decisions), "ms"
        yield "a decision, 99th percentile", 1e3 * decisions[len(decisions) * 99 // 100], "ms"
        yield "driver, decision and journal, for each unit", 1e3 * self._driving / self._units, "ms"
        yield "journal, for each unit", journal / self._units, "bytes"
        grown = _resident() - self._memory_before
        yield "driver's memory, grown by", grown / 2**20, "MiB"

    def _submit(self) -> None:
        index = next(self._left, None)
        if index is None:
            return
        name = f"trial-{index:05d}"
        self._costs[name] = self._random.lognormvariate(0.0, 0.5) * self._args.seconds
        state = StateRef(f"runs/scale/trials/{name}/state/0.safetensors", 1, 64 * "0")
        self._journal.append("trial", trial=name, index=index, state=state)
        self._handle(TrialSubmitted(name, index, self._args.epochs, state))

    def _handle(self, *events: Event) -> None:
        began = time.perf_counter()
        report = self._scheduler.handle(*events)
        seconds = time.perf_counter() - began
        self._decisions.append(seconds)
        self._spend(seconds)
        for instruction in report:
            if isinstance(instruction, RunUnits):
                for unit in instruction.units:
                    self._start(instruction.worker, unit)
            elif isinstance(instruction, EpochResult):
                self._journal.append("epoch", trial=instruction.trial_id, epoch=instruction.epoch)
                self._handle(EpochAnswered(instruction.trial_id, True))
            elif isinstance(instruction, TrialResult):
                self._journal.append("end", trial=instruction.trial_id)
                del self._costs[instruction.trial_id]
                self._submit()

    def _start(self, worker: int, unit: Unit) -> None:
        train = unit.phase is Phase.TRAIN
        seconds = self._costs[unit.trial_id] * self._speeds[worker] * (1.0 if train else 0.2)
        began = max(self._now, self._free[worker])
        asks = began + seconds * (1.0 - self._args.ahead)
        seconds *= self._random.uniform(0.8, 1.2)
        if self._args.ahead and asks < began + seconds:
            self._later(asks, WorkRequested(worker))
        self._busy += seconds
        state = None
        if train:
            key = f"runs/scale/trials/{unit.trial_id}/state/{unit.visit + 1:06d}.safetensors"
            state = StateRef(key, 200_000, 64 * "0")
        metrics = ((1.5, 1000.0), (0.5, 1000.0))
        hop = {"fetch": 0.001, "set": 0.001, "dump": 0.001, "write": 0.001}
        result = UnitResult(unit, worker, state, metrics, 1000, began, seconds, 0, hop)
        self._free[worker] = began + seconds
        self._later(began + seconds, result)

    def _later(self, when: float, event: UnitResult | WorkRequested) -> None:
        heapq.heappush(self._to_come, (when, next(self._numbers), event))

    def _spend(self, seconds: float) -> None:
        self._now += seconds
        self._driving += seconds


def _resident() -> int:
    """Return the peak resident bytes of the process."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


if __name__ == "__main__":
    sys.path.insert(0, os.path.dirname(__file__))
    main()
