"""Queue that builds trials in a background thread, in the order of their proposals."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType

from nas.search.trial_builder import BuiltTrial, TrialBuilder
from nas.search.trial_callbacks import SearchCallbacks
from nas.trial.state import RunningTrial
from nas.trial.table import TrialTable


class BuildQueue:
    """Queue of trials to build, and a context manager that shuts down the build thread."""

    def __init__(
        self, builder: TrialBuilder, table: TrialTable, callbacks: SearchCallbacks
    ) -> None:
        self._builder = builder
        self._table = table
        self._callbacks = callbacks
        self._executor = ThreadPoolExecutor(1, "cerebros-build")
        self._queue: deque[tuple[RunningTrial, Future[BuiltTrial]]] = deque()

    def __enter__(self) -> BuildQueue:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._executor.shutdown(cancel_futures=kind is not None)

    def add(self, trial: RunningTrial) -> None:
        """Queue a proposed trial to be built."""
        self._queue.append((trial, self._executor.submit(self._build, trial)))

    def pop_finished(self) -> Iterator[tuple[RunningTrial, Future[BuiltTrial]]]:
        """Remove and yield the first trials whose builds are done, each with its future.

        Stop at the first unfinished build, which keeps the order of proposals.
        """
        while self._queue and self._queue[0][1].done():
            yield self._queue.popleft()

    @property
    def is_busy(self) -> bool:
        """Whether any trial is queued, is being built, or is built but not yet removed."""
        return bool(self._queue)

    def _build(self, trial: RunningTrial) -> BuiltTrial:
        parent = trial.proposal.parent
        record = None if parent is None else self._table.find_parent(parent)
        built = self._builder.build(trial.name, trial.index, trial.proposal, record)
        return self._callbacks.start(trial, built)
