"""Drives a KerasTuner oracle as a Tuner.

KerasTuner's own Tuner class trains by itself, one trial after another; only its oracles, which
choose, are used.
"""

from __future__ import annotations

import logging
import math
import tempfile
from typing import Any

import keras_tuner

from cerebros_spark.types import Status
from nas.tuners.base import Pause, Proposal, Tuner, Verdicts

logger = logging.getLogger("nas")

_NEVER = 10**9  # failures in a row are counted by the search


class OracleTuner:
    """A KerasTuner oracle in the tuner's slot.

    Args:
        oracle: The oracle, made with a seed of its own.
    """

    def __init__(self, oracle: keras_tuner.Oracle) -> None:
        self._oracle = oracle
        # The oracle writes files about its trials; the journal is what counts here.
        self._folder = tempfile.TemporaryDirectory(prefix="cerebros-oracle-")
        oracle._set_project_dir(self._folder.name, "oracle")
        oracle.verbose = 0
        oracle.max_retries_per_trial = 0
        oracle.max_consecutive_failed_trials = _NEVER
        self._running: dict[str, Any] = {}
        self._asked = 0

    @property
    def hyperparameters(self) -> Any:
        """The search space as known so far."""
        return self._oracle.get_space()

    def learn(self, hyperparameters: Any) -> None:
        """Adds hyperparameters that a space has asked for to the search space."""
        self._oracle.update_space(hyperparameters)

    def propose(self) -> Proposal | Pause:
        """Asks the oracle for a trial."""
        # The oracle gives one name one trial at a time, so every request has a name of its own.
        slot = f"slot-{self._asked}"
        trial = self._oracle.create_trial(slot)
        if trial.status == keras_tuner.engine.trial.TrialStatus.STOPPED:
            return Pause.DONE
        if trial.status != keras_tuner.engine.trial.TrialStatus.RUNNING:
            return Pause.WAIT
        self._asked += 1
        self._running[trial.trial_id] = trial
        return Proposal(trial.trial_id, trial.hyperparameters)

    def observe(self, trial_id: str, epoch: int, logs: dict[str, float]) -> Verdicts:
        """Passes the metrics on; an oracle that has seen enough stops the trial."""
        finite = {name: value for name, value in logs.items() if math.isfinite(value)}
        if self._oracle.objective.name in finite:
            trial = self._oracle.update_trial(trial_id, finite, step=epoch)
            stopped = trial.status == keras_tuner.engine.trial.TrialStatus.STOPPED
            return {trial_id: not stopped}
        return {trial_id: True}

    def conclude(self, trial_id: str, status: Status) -> Verdicts:
        """Ends the trial with the oracle."""
        trial = self._running.pop(trial_id)
        failed = status is Status.FAILED or not trial.metrics.exists(self._oracle.objective.name)
        trial.status = "FAILED" if failed else "COMPLETED"
        self._oracle.end_trial(trial)
        self._oracle.save()
        return {}


def _conforms(tuner: OracleTuner) -> Tuner:
    return tuner
