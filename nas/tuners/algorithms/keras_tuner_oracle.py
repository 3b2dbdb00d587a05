"""Drives a KerasTuner oracle as a Tuner.

KerasTuner's own Tuner class trains by itself, one trial after another; only its oracles, which
choose, are used.
"""

from __future__ import annotations

import copy
import math
import tempfile
from typing import Any

import keras_tuner

from cerebros_spark.core.errors import ArgumentError
from cerebros_spark.core.types import Status
from nas.trial.objective import parse_objective
from nas.trial.proposal import Pause, Proposal, Tuner, Verdicts

_FIXED = keras_tuner.engine.hyperparameters.Fixed
_NEVER = 10**9  # failures in a row are counted by the search


class OracleTuner:
    """A KerasTuner oracle in the tuner's slot.

    What Hyperband writes into the values is understood: a trial of ``tuner/epochs`` that goes on
    at ``tuner/initial_epoch`` from the trial ``tuner/trial_id`` becomes a proposal of the
    difference's epochs with that parent.

    Args:
        oracle: The oracle, not used yet. The tuner works with a copy. If it has no seed of its
            own KerasTuner draws one, and a run can't be gone on with: another would be drawn.
        objective: What is optimized instead of the oracle's own objective.
        max_trials: Number of trials instead of the oracle's own.

    Raises:
        ArgumentError: If it has been used, can't be copied, or has several objectives.
    """

    def __init__(
        self,
        oracle: keras_tuner.Oracle,
        objective: keras_tuner.Objective | None = None,
        max_trials: int | None = None,
    ) -> None:
        self._oracle = _copied(oracle)
        self._oracle.objective = objective or oracle_objective(oracle)
        if self._oracle.objective is None:
            raise ArgumentError(
                f"the {type(oracle).__name__} has no objective; pass one, for example "
                'objective=keras_tuner.Objective("val_loss", "min")'
            )
        if max_trials is not None:
            self._oracle.max_trials = max_trials
        # What the user declared everywhere; elsewhere it is not declared again.
        self._declared = {hp.name for hp in self._oracle.hyperparameters.space if not hp.conditions}
        # The oracle writes files about its trials; the journal is what counts here.
        self._folder = tempfile.TemporaryDirectory(prefix="cerebros-oracle-")
        self._oracle._set_project_dir(self._folder.name, "oracle")
        self._oracle.verbose = 0
        self._oracle.max_retries_per_trial = 0
        self._oracle.max_consecutive_failed_trials = _NEVER
        config = self._oracle.hyperparameters.get_config()
        self._oracle.hyperparameters = _Completing.from_config(config)
        self._proposals: dict[str, Proposal] = {}
        self._asked = 0
        self._done = False

    @property
    def hyperparameters(self) -> Any:
        """The search space as known so far."""
        return self._oracle.get_space()

    def learn(self, hyperparameters: Any) -> None:
        """Adds hyperparameters that a space has asked for to the search space.

        Raises:
            ArgumentError: If the oracle does not allow new ones.
        """
        try:
            self._oracle.update_space(self._as_declared(hyperparameters))
        except RuntimeError as error:
            raise ArgumentError(
                f"the {type(self._oracle).__name__} does not take what the space asks for: {error}"
            ) from error

    def propose(self) -> Proposal | Pause:
        """Asks the oracle for a trial. Once it has none it is not asked again."""
        if self._done:
            return Pause.DONE
        for trial in self._oracle.trials.values():
            # Oracles go on from earlier values, and expect what was learned since among them.
            known = trial.hyperparameters
            known.values = self._oracle.hyperparameters.completed(known.values)
        self._forget_outgrown()
        # The oracle gives one name one trial at a time, so every request has a name of its own.
        trial = self._oracle.create_trial(f"slot-{self._asked}")
        if trial.status == keras_tuner.engine.trial.TrialStatus.STOPPED:
            self._done = True
            return Pause.DONE
        if trial.status != keras_tuner.engine.trial.TrialStatus.RUNNING:
            return Pause.WAIT
        self._asked += 1
        # The oracle keeps its own: it completes the values by what other trials asked for.
        known = trial.hyperparameters.copy()
        epochs = known.values.get("tuner/epochs")
        first = known.values.get("tuner/initial_epoch", 0)
        proposal = Proposal(
            trial.trial_id,
            known,
            None if epochs is None else epochs - first,
            known.values.get("tuner/trial_id"),
            first,
        )
        self._proposals[trial.trial_id] = proposal
        return proposal

    def observe(self, trial_id: str, epoch: int, logs: dict[str, float]) -> Verdicts:
        """Passes the metrics on; an oracle that has seen enough stops the trial."""
        finite = {name: value for name, value in logs.items() if math.isfinite(value)}
        if self._oracle.objective.name not in finite:
            return {trial_id: True}
        trial = self._oracle.update_trial(trial_id, finite, step=epoch)
        return {trial_id: trial.status != keras_tuner.engine.trial.TrialStatus.STOPPED}

    def conclude(self, trial_id: str, status: Status) -> Verdicts:
        """Ends the trial with the oracle."""
        trial = self._oracle.trials[trial_id]
        known = self._proposals.pop(trial_id).hyperparameters
        self.learn(known)
        # As the oracle knows the space by now, with the values the network was built with.
        trial.hyperparameters = self._oracle.hyperparameters.copy()
        trial.hyperparameters.values = dict(known.values)
        trial.hyperparameters.ensure_active_values()
        failed = status is Status.FAILED or not trial.metrics.exists(self._oracle.objective.name)
        trial.status = "FAILED" if failed else "COMPLETED"
        self._oracle.end_trial(trial)
        self._oracle.save()
        return {}

    def _forget_outgrown(self) -> None:
        """Has the Bayesian oracle begin anew with its surrogate when the space has grown.

        It asks the surrogate about trials in flight before it fits it again, and fails where that
        knows fewer hyperparameters than there are now.
        """
        surrogate = getattr(self._oracle, "gpr", None)
        searched = [hp for hp in self._oracle.hyperparameters.space if not isinstance(hp, _FIXED)]
        if getattr(surrogate, "n_features_in_", len(searched)) != len(searched):
            self._oracle.gpr = self._oracle._make_gpr()

    def _as_declared(self, hyperparameters: Any) -> Any:
        """Without what the user has declared for every condition."""
        left = keras_tuner.HyperParameters()
        left.merge([hp for hp in hyperparameters.space if hp.name not in self._declared])
        return left


def oracle_objective(oracle: keras_tuner.Oracle) -> keras_tuner.Objective | None:
    """What an oracle optimizes; None if nothing was said.

    Raises:
        ArgumentError: If it has several objectives, or no direction.
    """
    objective = oracle.objective
    several = getattr(objective, "objectives", None)
    if several is not None:
        raise ArgumentError(
            "one objective is optimized, but the "
            f"{type(oracle).__name__} has {len(several)}: {objective}"
        )
    if objective is None or objective.name == "default_objective":
        return None
    return parse_objective(objective)


def _copied(oracle: keras_tuner.Oracle) -> Any:
    if oracle.trials:
        raise ArgumentError(
            f"the {type(oracle).__name__} has been used for {len(oracle.trials)} trials; pass a "
            "new one"
        )
    try:
        return copy.deepcopy(oracle)
    except Exception as error:
        raise ArgumentError(
            f"the {type(oracle).__name__} can't be copied, which each search needs: {error}"
        ) from error


class _Completing(keras_tuner.HyperParameters):
    """HyperParameters whose values are completed by defaults.

    KerasTuner draws them, without a seed; and it drops the value of a name that is declared
    under two conditions, since one of them does not hold.
    """

    def copy(self) -> _Completing:
        made: _Completing = _Completing.from_config(self.get_config())
        return made

    def ensure_active_values(self) -> None:
        self.values: dict[str, Any] = self.completed(self.values)

    def completed(self, values: dict[str, Any]) -> dict[str, Any]:
        known = {hp.name for hp in self.space}
        found = {name: value for name, value in values.items() if name not in known}
        for definition in self.space:
            name = definition.name
            if name not in found and all(c.is_active(found) for c in definition.conditions):
                found[name] = values.get(name, definition.default)
        return found


def _conforms(tuner: OracleTuner) -> Tuner:
    return tuner
