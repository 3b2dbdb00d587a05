"""Builds the trials of a search beside the training, in the order they were proposed."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType

from cerebros_spark.core.types import StateRef
from nas.search.trial_builder import BuiltTrial, TrialBuilder
from nas.search.trial_callbacks import Callbacks
from nas.trial.state import RunningTrial
from nas.trial.table import TrialTable


class BuildQueue:
    """Builds trials in one thread of its own, while it is entered.

    Args:
        builder: Builds a network.
        ledger: The trials: one may start from what another came to.
        callbacks: The trials' callbacks.
        fetch: Gives the bytes of a state.
    """

    def __init__(
        self,
        builder: TrialBuilder,
        ledger: TrialTable,
        callbacks: Callbacks,
        fetch: Callable[[StateRef], bytes],
    ) -> None:
        self._builder = builder
        self._ledger = ledger
        self._callbacks = callbacks
        self._fetch = fetch
        self._executor = ThreadPoolExecutor(1, "cerebros-build")
        self._building: dict[str, Future[BuiltTrial]] = {}

    def __enter__(self) -> BuildQueue:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._executor.shutdown(cancel_futures=kind is not None)

    def begin(self, track: RunningTrial) -> None:
        """Takes a trial in."""
        self._building[track.name] = self._executor.submit(self._build, track)

    def finished(self) -> Iterator[tuple[RunningTrial, Future[BuiltTrial]]]:
        """Hands out the trials that are built, or could not be, in their order."""
        for name in list(self._building):
            if not self._building[name].done():
                return
            yield self._ledger.tracks[name], self._building.pop(name)

    @property
    def busy(self) -> bool:
        """Whether there is a trial that was not handed out."""
        return bool(self._building)

    def _build(self, track: RunningTrial) -> BuiltTrial:
        """Builds a trial: with new weights or its parent's, as its callbacks leave them."""
        proposal = track.proposal
        built = self._builder(track.name, track.index, proposal.hyperparameters, proposal.epochs)
        if proposal.parent is not None:
            state = self._fetch(self._ledger.kept_of(proposal.parent))
            built = dataclasses.replace(built, state=state)
        return self._callbacks.begin(track, built)
