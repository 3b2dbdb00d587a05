"""Keras callbacks of a search's trials, called on the driver when epochs begin and end."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

from cerebros_spark.core.types import EpochAnswer, EpochResult, StateRef, TrialSpec
from cerebros_spark.runs.journal import to_json_types
from cerebros_spark.training.keras.callbacks import StateChange, TrialCallbacks
from nas.search.trial_builder import BuiltTrial
from nas.trial.state import FinishedEpoch, RunningTrial

Factory = Callable[[TrialSpec, int], TrialCallbacks]


class SearchCallbacks:
    """Keras callbacks of all trials in a search.

    Args:
        factory: Function that makes a trial's callbacks from its spec and the first epoch's index;
            None if the search has no callbacks.
        fetch: Function that reads a model state from the store.
    """

    def __init__(self, factory: Factory | None, fetch: Callable[[StateRef], bytes]) -> None:
        self._factory = factory
        self._fetch = fetch

    def start(self, trial: RunningTrial, built: BuiltTrial) -> BuiltTrial:
        """Begin training in a built trial's callbacks.

        Returns:
            The built trial, with the model state as the callbacks changed it.
        """
        if self._factory is None:
            return built
        trial.callbacks = self._factory(built.spec, trial.proposal.first_epoch)
        checkpoint = trial.callbacks.begin(built.checkpoint).checkpoint or built.checkpoint
        journal_fields = to_json_types({"callbacks": trial.callbacks.take_snapshots()})
        return dataclasses.replace(built, checkpoint=checkpoint, journal_fields=journal_fields)

    def end_epoch(self, trial: RunningTrial, result: EpochResult) -> FinishedEpoch:
        """End an epoch in a trial's callbacks.

        Returns:
            The epoch, with the metrics that callbacks added and whether it is the trial's last.
        """
        if self._factory is None:
            return FinishedEpoch(result.epoch, result.logs, stop=result.is_last)
        callbacks = self._get_callbacks(trial, self._factory)
        if callbacks.needs_model:
            callbacks.load(self._fetch(result.state))
        stop, added_logs = callbacks.end_epoch(result.epoch, result.logs)
        return FinishedEpoch(result.epoch, result.logs, added_logs, stop or result.is_last)

    def answer(
        self, trial: RunningTrial, epoch: FinishedEpoch, proceed: bool | None, keep: bool
    ) -> EpochAnswer:
        """Call the callbacks for the next epoch, or for the end of training if it ends.

        Args:
            trial: The trial.
            epoch: The epoch that it has finished.
            proceed: Whether the trial continues. None if it waits for the tuner's decision, in
                which case the callbacks begin the next epoch, too.
            keep: Whether to keep the epoch's model state as the best so far.

        Returns:
            The answer for the engine, including any change that callbacks made to the model state.
        """
        if trial.callbacks is None:
            return EpochAnswer(proceed, keep)
        change = StateChange()
        if proceed is False:
            trial.callbacks.finish(epoch.logs)
        else:
            change = trial.callbacks.begin_epoch(trial.finished_epochs)
        extra = to_json_types(
            {"callbacks": trial.callbacks.take_snapshots(), "logs": epoch.added_logs}
        )
        return EpochAnswer(proceed, keep, change.checkpoint, change.learning_rate, extra)

    def finish(self, trial: RunningTrial) -> None:
        """End training in the callbacks of a trial that waited for a decision or diverged."""
        if self._factory is not None:
            self._get_callbacks(trial, self._factory).finish({})

    @staticmethod
    def _get_callbacks(trial: RunningTrial, factory: Factory) -> TrialCallbacks:
        """Return a trial's callbacks; in a resumed run, restore them from their snapshots."""
        if trial.callbacks is None:
            assert trial.spec is not None
            trial.callbacks = factory(trial.spec, trial.proposal.first_epoch)
            trial.callbacks.resume(trial.saved or [])
        return trial.callbacks
