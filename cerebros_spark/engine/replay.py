"""Replay of a single trial in one process, and comparison with the journal.

Model hopping is sequential training: the states of a trial depend only on the order of its visits
(Nakandala, Zhang and Kumar, "Cerebro", VLDB 2020, section 4). A replay checks this after every
visit, bit by bit.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import msgspec

from cerebros_spark.core.errors import ArgumentError
from cerebros_spark.core.seeding import derive_unit_seed
from cerebros_spark.core.types import Phase, StateRef, TrialSpec, UnitResult
from cerebros_spark.data.folds import FoldShards
from cerebros_spark.data.manifest import Layout, Manifest, manifest_key
from cerebros_spark.data.shards import ShardData, open_shard
from cerebros_spark.engine.recovery import read_unit_result
from cerebros_spark.runs.artifacts import make_state_ref, read_spec, read_state
from cerebros_spark.runs.journal import get_trial_id, read
from cerebros_spark.storage.store import Store
from cerebros_spark.training.base import Program, create_trainer, custom_objects_scope
from cerebros_spark.training.keras import tensorflow_runtime


@dataclass(frozen=True)
class Comparison:
    """Comparison of a replayed trial with the run's journal.

    Attributes:
        trial_id: Name of the trial.
        units: Number of replayed units.
        states: Numbers of visits after which the state (weights, optimizer or anything else)
            differed; the first visit is 1.
        metrics: Numbers of the journal records whose metric variables differed.
    """

    trial_id: str
    units: int
    states: tuple[int, ...]
    metrics: tuple[int, ...]

    @property
    def equal(self) -> bool:
        """Whether all states and all metrics are bit-identical."""
        return not self.states and not self.metrics

    def __str__(self) -> str:
        verdict = "the same, bit for bit"
        if not self.equal:
            verdict = (
                f"states differ after visits {list(self.states)}; metrics differ in records "
                f"{list(self.metrics)}"
            )
        return f"{self.trial_id}: {self.units} units replayed, {verdict}"


class Replay:
    """Replay of a run's trials; the run may be unfinished.

    Args:
        store: Store of the run and its data.
        run_id: Name of the run.
        custom_objects: Custom layers, losses and metrics of the run by name, as passed to
            ``HyperHyperModel``, because the store does not contain them. Objects that importable
            modules register may be omitted; None if there are no others.

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
        self._shards: dict[int, FoldShards] = {}
        # One trainer for all trials, because it keeps what it has compiled.
        self._create_trainer = functools.cache(create_trainer)
        config = self._records[0]
        self._shard_memory = config["shard_memory"]
        self._layout = msgspec.convert(config["layout"], Layout)
        text = store.read(manifest_key(config["data"])).decode()
        self._manifest = Manifest.from_json(text)
        tensorflow_runtime.configure(config["threads"], None, config["deterministic"], defer=True)

    @property
    def trials(self) -> tuple[str, ...]:
        """Names of the trials that were built."""
        return tuple(record["trial"] for record in self._records if record["kind"] == "trial")

    def compare(self, trial_id: str) -> Comparison:
        """Retrain a trial with the same order of visits, and compare it with the journal.

        Raises:
            ArgumentError: If the run has no trial of that name.
            TrialError: If the trial needs custom layers, losses or metrics that are unknown here.
        """
        if trial_id not in self.trials:
            raise ArgumentError(f"there is no trial {trial_id!r} in the run {self._run_id!r}")
        records = [record for record in self._records if get_trial_id(record) == trial_id]
        first = next(record for record in records if record["kind"] == "trial")
        spec = read_spec(self._store, self._run_id, trial_id)
        with custom_objects_scope(self._custom_objects):
            trainer = self._create_trainer(spec.trainer)
            program = trainer.open([spec])
        program.load([read_state(self._store, StateRef(**first["state"]))])
        states: list[int] = []
        metrics: list[int] = []
        rate_setter: Any = None
        visits = units = 0
        for record in records:
            if record["kind"] == "unit":
                units += 1
                result = read_unit_result(record)
                visits = result.unit.visit + (result.unit.phase is Phase.TRAIN)
                has_same_state, has_same_metrics = self._run_unit(program, spec, result)
                if not has_same_state:
                    states.append(visits)
                if not has_same_metrics:
                    metrics.append(record["number"])
            elif record["kind"] == "answer" and record.get("state") is not None:
                # A change by callbacks: a learning rate is in the journal, the rest in the store.
                ref = StateRef(**record["state"])
                if record["learning_rate"] is None:
                    program.load([read_state(self._store, ref)])
                    continue
                rate_setter = rate_setter or self._make_rate_setter(spec)
                checkpoint = rate_setter.apply(program.dump()[0], record["learning_rate"])
                if make_state_ref("", checkpoint).sha256 != ref.sha256:
                    states.append(visits)
                program.load([checkpoint])
        del program  # so that the trainer can release it
        trainer.release_memory([trial_id])
        return Comparison(trial_id, units, tuple(states), tuple(metrics))

    def _make_rate_setter(self, spec: TrialSpec) -> Any:
        from cerebros_spark.training.keras.callbacks import LearningRateSetter

        with custom_objects_scope(self._custom_objects):
            return LearningRateSetter(spec.program)

    def _run_unit(self, program: Program, spec: TrialSpec, result: UnitResult) -> tuple[bool, bool]:
        """Rerun a unit; return whether its state and whether its metrics match the journal."""
        unit = result.unit
        shard = self._get_shards(unit.partition).get(unit.phase, spec)
        has_same_state = True
        if unit.phase is Phase.TRAIN:
            seed = derive_unit_seed(spec.seed, unit.trial_id, unit.epoch, unit.partition)
            (metrics,) = program.train(shard, [seed])
            assert result.state is not None
            (checkpoint,) = program.dump()
            has_same_state = make_state_ref("", checkpoint).sha256 == result.state.sha256
        else:
            (metrics,) = program.evaluate(shard)
        # By repr, so that NaN equals NaN.
        return has_same_state, repr(metrics) == repr(result.metrics)

    def _get_shards(self, partition: int) -> FoldShards:
        if partition not in self._shards:
            self._shards[partition] = FoldShards(functools.partial(self._open_shard, partition))
        return self._shards[partition]

    def _open_shard(self, partition: int, phase: Phase) -> ShardData:
        shards = self._manifest.train if phase is Phase.TRAIN else self._manifest.validation
        shard, memory = shards[partition], self._shard_memory // 2
        return open_shard(self._store, shard, self._manifest, self._layout, memory)
