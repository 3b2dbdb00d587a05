"""Keeps what was asked of a run with it, as soon as it has a journal."""

from __future__ import annotations

from collections.abc import Sequence

from cerebros_spark.storage.store import Store
from nas.cli.run_config import Asked, keep
from nas.monitoring.observer import SearchInfo, SearchObserver
from nas.trial.record import TrialRecord


class Keeper(SearchObserver):
    """Writes what was asked when the search begins: a new run removes what was there before.

    Args:
        store: The store.
        asked: What was asked.
    """

    def __init__(self, store: Store, asked: Asked) -> None:
        self._store = store
        self._asked = asked

    def begin(self, search: SearchInfo, trials: Sequence[TrialRecord]) -> None:
        """Writes it, unless it is there."""
        keep(self._store, search.run_id, self._asked)
