"""The callbacks of a search's trials, called where a trial begins and where its epochs end."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

from cerebros_spark.core.types import EpochResult, StateRef, TrialSpec
from cerebros_spark.runs.journal import to_json_types
from cerebros_spark.training.keras.callbacks import StateChange, TrialCallbacks
from nas.search.trial_builder import BuiltTrial
from nas.trial.state import FinishedEpoch, RunningTrial


class Callbacks:
    """Calls the callbacks of trials; where there are none, nothing comes of it.

    Args:
        make: Makes those of one trial, given its first epoch; None where there are none.
        fetch: Gives the bytes of a state.
    """

    def __init__(
        self,
        make: Callable[[TrialSpec, int], TrialCallbacks] | None,
        fetch: Callable[[StateRef], bytes],
    ) -> None:
        self._make = make
        self._fetch = fetch

    def begin(self, track: RunningTrial, built: BuiltTrial) -> BuiltTrial:
        """A trial was built: gives it as its callbacks leave it."""
        if self._make is None:
            return built
        track.callbacks = self._make(built.spec, track.proposal.first_epoch)
        state = track.callbacks.begin(built.state).state or built.state
        about = to_json_types({"callbacks": track.callbacks.get_states()})
        return dataclasses.replace(built, state=state, about=about)

    def end_epoch(self, track: RunningTrial, result: EpochResult) -> FinishedEpoch:
        """An epoch has ended: gives it with what the callbacks make of it."""
        if self._make is None:
            return FinishedEpoch(result.epoch, result.logs)
        callbacks = self._awake(track, self._make)
        if callbacks.needs_model:
            callbacks.load_state(self._fetch(result.state))
        stops, added = callbacks.end_epoch(result.epoch, result.logs)
        return FinishedEpoch(result.epoch, result.logs, added, stops)

    def go_on(
        self, track: RunningTrial, epoch: FinishedEpoch, proceed: bool | None
    ) -> tuple[StateChange, dict[str, Any]]:
        """After an epoch it was decided whether a trial goes on, or is held if it is None.

        Returns:
            What the callbacks have changed, and what the journal is to know of them.
        """
        if track.callbacks is None:
            return StateChange(), {}
        change = StateChange()
        if proceed is False:
            track.callbacks.finish(epoch.logs)
        else:
            change = track.callbacks.begin_epoch(track.finished_epochs)
        return change, to_json_types(
            {"callbacks": track.callbacks.get_states(), "logs": epoch.added}
        )

    def finish(self, track: RunningTrial) -> None:
        """A trial that was held ends."""
        if self._make is not None:
            self._awake(track, self._make).finish({})

    @staticmethod
    def _awake(
        track: RunningTrial, make: Callable[[TrialSpec, int], TrialCallbacks]
    ) -> TrialCallbacks:
        """A trial's callbacks, brought to where an earlier driver's were if need be."""
        if track.callbacks is None:
            assert track.spec is not None
            track.callbacks = make(track.spec, track.proposal.first_epoch)
            track.callbacks.resume(track.saved or [])
        return track.callbacks
