"""Garbage collection of model states in the store."""

from __future__ import annotations

import logging
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

from cerebros_spark.core.errors import StoreError
from cerebros_spark.core.types import StateRef
from cerebros_spark.runs.journal import Record, get_trial_id
from cerebros_spark.scheduler.trial_state import TrialState
from cerebros_spark.storage.store import Store

logger = logging.getLogger(__name__)


@dataclass
class TrialStates:
    """Model states of a trial to keep in the store, in addition to the scheduler's current one."""

    initial: StateRef  # needed for replays
    kept: StateRef | None = None  # the state of the best epoch
    pinned: list[StateRef] = field(default_factory=list)  # changed by callbacks, not replayable

    def list_keys(self) -> set[str]:
        """Return the store keys of these states."""
        return {ref.key for ref in (self.initial, self.kept, *self.pinned) if ref is not None}


class StateCollector:
    """Garbage collector of model states, which deletes them in a background thread.

    ``trials`` contains the states to keep by trial name; the engine updates it. ``get_trial``
    returns a running trial, whose current state is also kept, or None if the trial has ended.
    """

    def __init__(
        self, store: Store, run_id: str, get_trial: Callable[[str], TrialState | None]
    ) -> None:
        self._store = store
        self._folder = f"runs/{run_id}/trials"
        self.trials: dict[str, TrialStates] = {}
        self._get_trial = get_trial
        self._garbage: list[str] = []
        self._deleter = ThreadPoolExecutor(1, "cerebros-delete")

    def replay(self, record: Record) -> StateRef | None:
        """Update the states to keep from a journal record of a built trial.

        Returns the state that the driver created with the record: the trial's initial state, or
        one that callbacks changed. Returns None if the record created no state.
        """
        name, kind = get_trial_id(record) or "", record["kind"]
        made = _read_ref(record.get("state")) if kind in ("trial", "answer") else None
        if kind == "trial" and made is not None:
            self.trials[name] = TrialStates(made)
        elif kind == "answer":
            states = self.trials[name]
            states.kept = _read_ref(record["kept"])
            if made is not None and record["learning_rate"] is None:
                states.pinned.append(made)
        return made

    def discard(self, trial_id: str, state: StateRef | None) -> None:
        """Mark a replaced state as garbage, unless it must be kept or is None."""
        if state is not None and state.key not in self.trials[trial_id].list_keys():
            self._garbage.append(state.key)

    def collect(self) -> None:
        """Delete the states marked as garbage, in the background thread.

        Call this only after the journal records of the states that replaced them are committed.
        """
        while self._garbage:
            self._deleter.submit(self.delete, self._garbage.pop())

    def prune(self, trial_id: str = "") -> None:
        """Delete the unneeded states of a trial, or of all trials if ``trial_id`` is empty.

        These include states that lost workers wrote and never reported.
        """
        folder = f"{self._folder}/{trial_id}" if trial_id else self._folder
        needed = set().union(*(trial.list_keys() for trial in self.trials.values()))
        running = map(self._get_trial, self.trials)
        needed.update(trial.state.key for trial in running if trial is not None)
        try:
            keys = self._store.list(folder)
        except StoreError:
            logger.warning("cannot prune states in %s", folder, exc_info=True)
            return
        for key in keys:
            if "/state/" in key and key not in needed:
                self.delete(key)

    def delete(self, key: str) -> None:
        """Delete a key. A failure is only logged, because it costs only storage space."""
        try:
            self._store.delete(key)
        except StoreError:
            logger.warning("cannot delete %s", key, exc_info=True)

    def close(self) -> None:
        """Wait for pending deletions and end the thread."""
        self._deleter.shutdown()


def _read_ref(fields: dict[str, Any] | None) -> StateRef | None:
    return None if fields is None else StateRef(**fields)
