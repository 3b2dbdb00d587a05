"""Who looks on while a search runs: what is told to logs outside of it."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import keras_tuner

from cerebros_spark.core.types import Status
from cerebros_spark.runs.journal import read
from cerebros_spark.storage.store import Store
from nas.trial.record import TrialRecord

if TYPE_CHECKING:
    from nas.results.result import ModelSelectionResult

logger = logging.getLogger("nas")


@dataclass(frozen=True)
class SearchInfo:
    """The search that is looked at.

    Attributes:
        run_id: Its name.
        identity: Names this run among all: another run of the same name has another, and a run
            that is gone on with keeps its own.
        store: URL of the store.
        objective: What is optimized.
        asked: What was asked for, as the journal's first record has it.
        steps: Training steps of an epoch, by the number of rows in a step.
        custom_objects: Layers, losses and metrics that are not Keras' own, by name.
    """

    run_id: str
    identity: str
    store: str
    objective: keras_tuner.Objective
    asked: Mapping[str, Any] = field(default_factory=dict)
    steps: Callable[[int], int] = lambda batch_size: 0
    custom_objects: Mapping[str, Any] = field(default_factory=dict)


class SearchObserver:
    """Looks on while a search runs. What it is told is in the journal already.

    It brings what it writes up to what it is told, so that a call that failed is made good by the
    next, and a run that is gone on with has nothing twice.
    """

    def begin(self, search: SearchInfo, trials: Sequence[TrialRecord]) -> None:
        """The search begins, or is gone on with after these trials."""

    def update(self, trial: TrialRecord) -> None:
        """A trial has finished an epoch, or has ended."""

    def end(self, outcome: str, result: ModelSelectionResult | None) -> None:
        """The search has ended.

        Args:
            outcome: ``"over"``, ``"failed"`` or ``"interrupted"``.
            result: What it has found so far; None if that is nothing.
        """


class SearchObservers:
    """All that look on. What goes wrong with one of them is a warning, and the search goes on."""

    def __init__(self, watchers: Sequence[SearchObserver] = ()) -> None:
        self._watchers = tuple(watchers)
        self._warned: dict[int, str] = {}
        self._result: ModelSelectionResult | None = None

    def __bool__(self) -> bool:
        return bool(self._watchers)

    def begin(self, search: SearchInfo, trials: Sequence[TrialRecord]) -> None:
        """Tells all of them, as :meth:`SearchObserver.begin`."""
        self._tell(lambda each: each.begin(search, [_snapshot(trial) for trial in trials]))

    def update(self, trial: TrialRecord) -> None:
        """Tells all of them, as :meth:`SearchObserver.update`."""
        told = _snapshot(trial)
        self._tell(lambda each: each.update(told))

    def found(self, result: ModelSelectionResult) -> None:
        """Takes note of the result that the end is told with."""
        self._result = result

    @contextlib.contextmanager
    def until_the_end(self) -> Iterator[None]:
        """Tells all of them how the block ended."""
        outcome = "interrupted"
        try:
            yield
            outcome = "over"
        except Exception:
            outcome = "failed"
            raise
        finally:
            self._tell(lambda each: each.end(outcome, self._result))

    def _tell(self, call: Callable[[SearchObserver], None]) -> None:
        for number, each in enumerate(self._watchers):
            try:
                call(each)
            except Exception as error:
                told = f"{type(error).__name__}: {error}"
                if self._warned.get(number) != told:
                    self._warned[number] = told
                    logger.warning(
                        "%s: %s; the search goes on", type(each).__name__, told, exc_info=True
                    )


def identity_of(store: Store, run_id: str) -> str:
    """Names a run among all, by when and where it was begun."""
    began = next(record["at"] for record in read(store, run_id) if record["kind"] == "session")
    return hashlib.sha256(f"{store.url} {run_id} {began!r}".encode()).hexdigest()[:32]


def has_ended(trial: TrialRecord) -> bool:
    """Whether a trial has ended."""
    return trial.status is not Status.RUNNING


def _snapshot(trial: TrialRecord) -> TrialRecord:
    """A trial whose history does not grow any more."""
    history = {name: list(values) for name, values in trial.history.items()}
    return dataclasses.replace(trial, history=history)
