"""Garbage collection of model states in the store."""

from __future__ import annotations

import logging
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from cerebros_spark.core.errors import StoreError
from cerebros_spark.core.types import StateRef
from cerebros_spark.storage.store import Store

logger = logging.getLogger(__name__)


@dataclass
class TrialStates:
    """States of one trial to keep in the store, besides the scheduler's current one."""

    initial: StateRef  # needed for replays
    kept: StateRef | None = None  # the state of the best epoch
    pinned: list[StateRef] = field(default_factory=list)  # changed by callbacks, not replayable

    def list_keys(self) -> set[str]:
        """List the store keys of the states."""
        return {ref.key for ref in (self.initial, self.kept, *self.pinned) if ref is not None}


class StateCollector:
    """Garbage collector of states, with a thread for deletions.

    ``trials`` has the states to keep by trial; the engine updates them. ``get_current`` returns the
    current state of a running trial.
    """

    def __init__(
        self,
        store: Store,
        run_id: str,
        trials: dict[str, TrialStates],
        get_current: Callable[[str], StateRef | None],
    ) -> None:
        self._store = store
        self._folder = f"runs/{run_id}/trials"
        self.trials = trials
        self._get_current = get_current
        self._garbage: list[str] = []
        self._deleter = ThreadPoolExecutor(1, "cerebros-delete")

    def discard(self, trial_id: str, state: StateRef | None) -> None:
        """Mark a replaced state as garbage, unless it is among those to keep; ignore None."""
        if state is not None and state.key not in self.trials[trial_id].list_keys():
            self._garbage.append(state.key)

    def collect(self) -> None:
        """Delete the garbage in the thread. The records of its replacements must be committed."""
        while self._garbage:
            self._deleter.submit(self.delete, self._garbage.pop())

    def prune(self, trial_id: str = "") -> None:
        """Delete the unneeded states of a trial, or of all if ``trial_id`` is empty.

        These include states that lost workers wrote and never reported.
        """
        folder = f"{self._folder}/{trial_id}" if trial_id else self._folder
        needed = set().union(*(trial.list_keys() for trial in self.trials.values()))
        current = map(self._get_current, self.trials)
        needed.update(ref.key for ref in current if ref is not None)
        try:
            keys = self._store.list(folder)
        except StoreError:
            logger.warning("cannot prune states in %s", folder, exc_info=True)
            return
        for key in keys:
            if "/state/" in key and key not in needed:
                self.delete(key)

    def delete(self, key: str) -> None:
        """Delete a key. A failure is only logged, because it costs nothing but space."""
        try:
            self._store.delete(key)
        except StoreError:
            logger.warning("cannot delete %s", key, exc_info=True)

    def close(self) -> None:
        """Wait for the deletions and end the thread."""
        self._deleter.shutdown()
