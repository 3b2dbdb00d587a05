"""Observers that follow a running search and log it to other systems."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import keras_tuner

from cerebros_spark.runs.journal import read
from cerebros_spark.storage.store import Store
from nas.trial.record import TrialRecord

if TYPE_CHECKING:
    from nas.results.result import ModelSelectionResult

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class SearchInfo:
    """Description of the search that an observer follows.

    Attributes:
        run_id: Name of the run.
        identity: Unique identifier of the run. A resumed run keeps it; a new run with the same name
            has a different one.
        store: URL of the store.
        objective: Objective of the search.
        config: The search configuration, as recorded in the journal.
        steps: Function that returns the number of training steps per epoch for a batch size.
        custom_objects: Custom layers, losses and metrics by name.
    """

    run_id: str
    identity: str
    store: str
    objective: keras_tuner.Objective
    config: Mapping[str, Any] = field(default_factory=dict)
    steps: Callable[[int], int] = lambda batch_size: 0
    custom_objects: Mapping[str, Any] = field(default_factory=dict)


class SearchObserver:
    """Base class of observers, which are passed to ``fit`` among the callbacks.

    The journal already contains everything that an observer receives. In every call, an observer
    should write everything that it has not written yet. A call then writes what an earlier, failed
    call should have written, and a resumed run repeats nothing.
    """

    def begin(self, search: SearchInfo, trials: Sequence[TrialRecord]) -> None:
        """Handle the start of a search, or its resumption with the trials of earlier sessions."""

    def update(self, trial: TrialRecord) -> None:
        """Handle a finished epoch or the end of a trial."""

    def end(self, outcome: str, result: ModelSelectionResult | None) -> None:
        """Handle the end of the search.

        Args:
            outcome: ``"finished"``, ``"failed"`` or ``"interrupted"``.
            result: The result so far, which is partial unless the search is finished. None if no
                trial has a score.
        """


class SearchObservers:
    """All observers of a search. An error in one of them is logged, and the search continues."""

    def __init__(self, observers: Sequence[SearchObserver] = ()) -> None:
        self._observers = tuple(observers)
        self._logged: dict[int, str] = {}
        self._result: ModelSelectionResult | None = None

    def __bool__(self) -> bool:
        return bool(self._observers)

    def begin(self, search: SearchInfo, trials: Sequence[TrialRecord]) -> None:
        """Call :meth:`SearchObserver.begin` on every observer."""
        self._call(lambda each: each.begin(search, [_copy_record(trial) for trial in trials]))

    def update(self, trial: TrialRecord) -> None:
        """Call :meth:`SearchObserver.update` on every observer."""
        snapshot = _copy_record(trial)
        self._call(lambda each: each.update(snapshot))

    def set_result(self, result: ModelSelectionResult) -> None:
        """Set the result that is passed to :meth:`SearchObserver.end`."""
        self._result = result

    @contextlib.contextmanager
    def until_end(self) -> Iterator[None]:
        """Call :meth:`SearchObserver.end` on every observer when the block ends."""
        outcome = "interrupted"
        try:
            yield
            outcome = "finished"
        except Exception:
            outcome = "failed"
            raise
        finally:
            self._call(lambda each: each.end(outcome, self._result))

    def _call(self, call: Callable[[SearchObserver], None]) -> None:
        for number, each in enumerate(self._observers):
            try:
                call(each)
            except Exception as error:
                message = f"{type(error).__name__}: {error}"
                if self._logged.get(number) != message:
                    self._logged[number] = message
                    logger.warning(
                        "%s: %s; the search continues", type(each).__name__, message, exc_info=True
                    )


def identify_run(store: Store, run_id: str) -> str:
    """Return a unique identifier of a run, computed from its store, name and start time."""
    began = next(record["at"] for record in read(store, run_id) if record["kind"] == "session")
    return hashlib.sha256(f"{store.url} {run_id} {began!r}".encode()).hexdigest()[:32]


def _copy_record(trial: TrialRecord) -> TrialRecord:
    """Return a copy of a record, whose history does not grow when the trial continues."""
    history = {name: list(values) for name, values in trial.history.items()}
    return dataclasses.replace(trial, history=history)
