"""Trains a trial again, alone and in one process, and compares it with what the journal says.

Model hopping is sequential training: a trial's states depend on the order of its visits and on
nothing else (Nakandala, Zhang and Kumar, "Cerebro", VLDB 2020, section 4). Here that is looked at,
visit by visit, bit by bit. ``python -m cerebros_spark.replay RUN`` does so for a run's trials.
"""

from __future__ import annotations

import argparse
import contextlib
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from cerebros_spark.core.errors import ArgumentError
from cerebros_spark.core.seeding import unit_seed
from cerebros_spark.core.types import Phase, TrialSpec, UnitResult, state_ref, unit_result
from cerebros_spark.data.manifest import Layout, Manifest, manifest_key
from cerebros_spark.data.shards import ShardData, open_shard
from cerebros_spark.runs.artifacts import make_state_ref, read_spec, read_state
from cerebros_spark.runs.journal import Record, get_trial_id, locate_run, read
from cerebros_spark.storage.store import Store
from cerebros_spark.training.base import Program, create_trainer
from cerebros_spark.training.keras import tensorflow_runtime


@dataclass(frozen=True)
class Comparison:
    """What came out of training a trial again.

    Attributes:
        trial_id: The trial.
        units: How many units were run again.
        states: Visits after which weights, optimizer or anything else of the state differed.
        metrics: Journal records whose metric variables differed.
    """

    trial_id: str
    units: int
    states: tuple[int, ...]
    metrics: tuple[int, ...]

    @property
    def equal(self) -> bool:
        """Whether every state and every metric was the same, bit for bit."""
        return not self.states and not self.metrics


class Replay:
    """Trains trials of a finished or unfinished run again.

    Args:
        store: Where the run and its data lie.
        run_id: The run.
        custom_objects: The run's own layers, losses and metrics by name, as ``HyperHyperModel``
            was given them; the store does not hold them. Registered ones of modules that can be
            imported need not be named.

    Raises:
        StoreError: If the journal or the data is missing or damaged.
    """

    def __init__(
        self, store: Store, run_id: str, custom_objects: Mapping[str, Any] | None = None
    ) -> None:
        self._custom_objects = custom_objects
        self._store = store
        self._run_id = run_id
        self._records = read(store, run_id)
        self._shards: dict[tuple[Phase, int], ShardData] = {}
        asked = self._records[0]
        self._shard_memory = asked["shard_memory"]
        layout = {
            name: tuple(tuple(group) for group in groups)
            for name, groups in asked["layout"].items()
        }
        self._layout = Layout(**layout)
        text = store.read(manifest_key(asked["data"])).decode()
        self._manifest = Manifest.from_json(text)
        tensorflow_runtime.configure(asked["threads"], None, asked["deterministic"], defer=True)

    @property
    def trials(self) -> tuple[str, ...]:
        """The trials that were built."""
        return tuple(record["trial"] for record in self._records if record["kind"] == "trial")

    def compare(self, trial_id: str) -> Comparison:
        """Trains a trial again in the order of the journal.

        Raises:
            ArgumentError: If there is no such trial.
            TrialError: If it needs layers, losses or metrics that are not known here.
        """
        if trial_id not in self.trials:
            raise ArgumentError(f"there is no trial {trial_id!r} in the run {self._run_id!r}")
        mine = [record for record in self._records if get_trial_id(record) == trial_id]
        first = next(record for record in mine if record["kind"] == "trial")
        spec = read_spec(self._store, self._run_id, trial_id)
        with self._known_objects():
            program = create_trainer(spec.trainer).open([spec])
        program.load([read_state(self._store, state_ref(first["state"]))])
        states: list[int] = []
        metrics: list[int] = []
        rates: LearningRateSetter | None = None
        units = 0
        for record in mine:
            if record["kind"] == "unit":
                units += 1
                then = unit_result(_fields(record))
                same_state, same_metrics = self._again(program, spec, then)
                if not same_state:
                    states.append(then.unit.visit + 1)
                if not same_metrics:
                    metrics.append(record["number"])
            elif record["kind"] == "answer" and record.get("state") is not None:
                # What callbacks had changed. The journal knows a learning rate; of anything else
                # the store has kept the state.
                ref = state_ref(record["state"])
                if record["learning_rate"] is None:
                    program.load([read_state(self._store, ref)])
                    continue
                if rates is None:
                    from cerebros_spark.training.keras.callbacks import LearningRateSetter

                    with self._known_objects():
                        rates = LearningRateSetter(spec.program)
                state = rates.apply(program.dump()[0], record["learning_rate"])
                if make_state_ref("", state).sha256 != ref.sha256:
                    states.append(then.unit.visit)
                program.load([state])
        return Comparison(trial_id, units, tuple(states), tuple(metrics))

    def _known_objects(self) -> contextlib.AbstractContextManager[None]:
        """Return a scope of the custom objects, which imports Keras only where there are some."""
        if not self._custom_objects:
            return contextlib.nullcontext()
        from cerebros_spark.training.keras.scopes import custom_object_scope

        return custom_object_scope(self._custom_objects)

    def _again(self, program: Program, spec: TrialSpec, then: UnitResult) -> tuple[bool, bool]:
        """Runs a unit again; whether its state and its metrics are the same."""
        unit = then.unit
        shard = self._shard(unit.phase, unit.partition)
        same = True
        if unit.phase is Phase.TRAIN:
            seed = unit_seed(spec.seed, unit.trial_id, unit.epoch, unit.partition)
            (now,) = program.train(shard, [seed])
            assert then.state is not None
            (state,) = program.dump()
            same = make_state_ref("", state).sha256 == then.state.sha256
        else:
            (now,) = program.evaluate(shard)
        return same, repr(now) == repr(then.metrics)  # not ==: a NaN is to equal itself

    def _shard(self, phase: Phase, partition: int) -> ShardData:
        place = (phase, partition)
        if place not in self._shards:
            shards = self._manifest.train if phase is Phase.TRAIN else self._manifest.validation
            self._shards[place] = open_shard(
                self._store,
                shards[partition],
                self._manifest,
                self._layout,
                self._shard_memory // 2,
            )
        return self._shards[place]


def _fields(record: Record) -> Record:
    return {name: value for name, value in record.items() if name not in ("number", "kind")}


def main(arguments: Sequence[str] | None = None) -> None:
    """Replays trials and prints what came out; ends the process with 1 if something differs."""
    parser = argparse.ArgumentParser(
        prog="python -m cerebros_spark.replay",
        description="Trains trials again, alone, and compares them with the journal bit by bit. "
        "Layers, losses and metrics of one's own must be registered in modules that can be "
        "imported here; others are for Replay(..., custom_objects=...) in Python.",
    )
    parser.add_argument("run", metavar="RUN", help="folder or URL of the run: STORE/runs/NAME")
    parser.add_argument("trials", metavar="TRIAL", nargs="*", help="all trials by default")
    args = parser.parse_args(arguments)
    replay = Replay(*locate_run(args.run))
    equal = True
    for name in args.trials or replay.trials:
        found = replay.compare(name)
        equal = equal and found.equal
        verdict = "the same, bit for bit"
        if not found.equal:
            verdict = f"states differ after visits {list(found.states)}; metrics differ in "
            verdict += f"records {list(found.metrics)}"
        sys.stdout.write(f"{name}: {found.units} units again, {verdict}\n")
        sys.stdout.flush()
    sys.exit(0 if equal else 1)
