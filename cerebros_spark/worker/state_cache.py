"""Model states that a worker keeps in memory."""

from __future__ import annotations

from cerebros_spark.core.types import StateRef
from cerebros_spark.runs.artifacts import read_state
from cerebros_spark.storage.store import Store


class StateCache:
    """Cache of at most two states per trial: a prefetched one and the last one trained here."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._prefetched: dict[str, tuple[str, bytes]] = {}  # digest and state by trial
        self._trained: dict[str, tuple[str, bytes]] = {}

    def prefetch(self, trial_id: str, ref: StateRef) -> None:
        """Read a state ahead of :meth:`get`, unless it is the last one trained here."""
        if self._trained.get(trial_id, ("", b""))[0] != ref.sha256:
            self._prefetched[trial_id] = ref.sha256, read_state(self._store, ref)

    def get(self, trial_id: str, ref: StateRef) -> bytes:
        """Return a state, read from the store if it is not cached."""
        for entry in (self._prefetched.pop(trial_id, None), self._trained.get(trial_id)):
            if entry is not None and entry[0] == ref.sha256:
                return entry[1]
        return read_state(self._store, ref)

    def put(self, trial_id: str, ref: StateRef, state: bytes) -> None:
        """Cache a state that was trained here, in place of the trial's previous one."""
        self._trained[trial_id] = ref.sha256, state

    def remove(self, trial_id: str) -> None:
        """Remove a trial's states."""
        self._prefetched.pop(trial_id, None)
        self._trained.pop(trial_id, None)
