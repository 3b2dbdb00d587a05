"""A worker's caches: compiled programs, and serialized model states to load into them."""

from __future__ import annotations

import logging
from collections import OrderedDict
from collections.abc import Sequence

from cerebros_spark.core.types import StateRef, TrialSpec, Unit
from cerebros_spark.runs.artifacts import read_spec, read_state
from cerebros_spark.runs.worker_config import WorkerConfig
from cerebros_spark.storage.store import Store
from cerebros_spark.training.base import Program, Trainer, create_trainer, custom_objects_scope

logger = logging.getLogger(__name__)


class ProgramCache:
    """Cache of trainers, trial specs and programs; records which model states they contain."""

    def __init__(self, config: WorkerConfig, worker: int) -> None:
        self._config = config
        self._worker = worker
        self._trainers: dict[str, Trainer] = {}
        self._specs: dict[str, TrialSpec] = {}
        self._programs: OrderedDict[tuple[str, ...], Program] = OrderedDict()
        self._loaded: dict[str, str] = {}  # digest of the state by trial

    def get_spec(self, trial_id: str) -> TrialSpec:
        """Return a trial's spec, read from the store at first use."""
        if trial_id not in self._specs:
            config = self._config
            self._specs[trial_id] = read_spec(config.store, config.run_id, trial_id)
        return self._specs[trial_id]

    def open(self, trial_ids: tuple[str, ...]) -> tuple[Program, bool]:
        """Return the program of trials that train together, and whether it remains cached."""
        trainer = self._get_trainer(trial_ids[0])
        if trial_ids in self._programs:
            self._programs.move_to_end(trial_ids)
            return self._programs[trial_ids], trainer.resident
        specs = [self.get_spec(trial_id) for trial_id in trial_ids]
        with custom_objects_scope(self._config.custom_objects):
            program = trainer.open(specs)
        if trainer.resident:
            self._make_room(program.nbytes)
            self._programs[trial_ids] = program
        return program, trainer.resident

    def holds_state_of(self, unit: Unit) -> bool:
        """Return whether the model state that a unit needs is loaded in its trial's program."""
        program = self._programs.get((unit.trial_id,))
        is_loaded = program is None or program.is_loaded  # None: it trains with others
        return is_loaded and self._loaded.get(unit.trial_id) == unit.state.sha256

    def set_loaded(self, trial_id: str, state: StateRef | None) -> None:
        """Record the model state loaded in a trial's program; None while training changes it."""
        if state is None:
            self._loaded.pop(trial_id, None)
        else:
            self._loaded[trial_id] = state.sha256

    def remove(self, trial_ids: Sequence[str]) -> None:
        """Remove trials that have ended or failed, and the programs that contain them."""
        removed = set(trial_ids)
        self._evict([name for name in self._programs if removed.intersection(name)], trial_ids)
        for trial_id in removed:
            self._specs.pop(trial_id, None)
            self._loaded.pop(trial_id, None)

    def _get_trainer(self, trial_id: str) -> Trainer:
        name = self.get_spec(trial_id).trainer
        if name not in self._trainers:
            self._trainers[name] = create_trainer(name)
        return self._trainers[name]

    def _make_room(self, nbytes: int) -> None:
        """Evict the least recently used programs until ``nbytes`` more bytes fit in memory."""
        total = nbytes + sum(program.nbytes for program in self._programs.values())
        evicted = []
        for name, program in self._programs.items():
            if total <= self._config.program_memory:
                break
            total -= program.nbytes
            evicted.append(name)
            logger.info("worker %d evicted the program of %s", self._worker, ", ".join(name))
        self._evict(evicted)

    def _evict(self, names: Sequence[tuple[str, ...]], ended_trials: Sequence[str] = ()) -> None:
        for name in names:
            del self._programs[name]
            for trial_id in name:
                self._loaded.pop(trial_id, None)
        for trainer in self._trainers.values():
            if names or not trainer.resident:
                trainer.release_memory(ended_trials)


class StateCache:
    """Cache of at most two model states per trial: a prefetched one, and the last trained here."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._prefetched: dict[str, tuple[str, bytes]] = {}  # digest and state by trial
        self._trained: dict[str, tuple[str, bytes]] = {}

    def prefetch(self, unit: Unit) -> None:
        """Read a unit's model state ahead of :meth:`get`, unless it was the last trained here."""
        if self._trained.get(unit.trial_id, ("", b""))[0] != unit.state.sha256:
            checkpoint = read_state(self._store, unit.state)
            self._prefetched[unit.trial_id] = unit.state.sha256, checkpoint

    def get(self, unit: Unit) -> bytes:
        """Return the serialized model state that a unit needs; read it if it is not cached."""
        name = unit.trial_id
        for entry in (self._prefetched.pop(name, None), self._trained.get(name)):
            if entry is not None and entry[0] == unit.state.sha256:
                return entry[1]
        return read_state(self._store, unit.state)

    def put(self, trial_id: str, ref: StateRef, checkpoint: bytes) -> None:
        """Cache a model state that this worker has trained, instead of the trial's previous one."""
        self._trained[trial_id] = ref.sha256, checkpoint

    def remove(self, trial_id: str) -> None:
        """Remove a trial's model states from the cache."""
        self._prefetched.pop(trial_id, None)
        self._trained.pop(trial_id, None)
