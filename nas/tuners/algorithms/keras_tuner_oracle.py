"""Tuner that wraps an oracle of KerasTuner.

KerasTuner's ``Tuner`` class is not used, because it trains one trial after another.
"""

from __future__ import annotations

import copy
import math
import tempfile
from typing import Any

import keras_tuner

from cerebros_spark.core.errors import ArgumentError
from cerebros_spark.core.types import Status
from nas.compat.keras_tuner import reset_surrogate, set_project_dir
from nas.trial.objective import parse_objective
from nas.trial.proposal import Pause, Proposal, Tuner, Verdicts

_FIXED = keras_tuner.engine.hyperparameters.Fixed
_NEVER = 10**9  # the search itself counts consecutive failures


class OracleTuner(Tuner):
    """Tuner that uses an oracle of KerasTuner.

    The values that KerasTuner's Hyperband adds keep their meaning. If they include
    ``tuner/trial_id``, the proposal continues that trial, its parent, from the epoch
    ``tuner/initial_epoch`` up to ``tuner/epochs``; the proposal's number of epochs is the
    difference of the two.

    Args:
        oracle: Oracle that has run no trials yet; the tuner uses a copy. If it has no seed,
            KerasTuner draws one, and the run cannot be resumed, because a different seed would then
            be drawn.
        objective: Objective that replaces the oracle's; if None, that one is kept.
        max_trials: Maximum number of trials that replaces the oracle's; if None, that one is kept.

    Raises:
        ArgumentError: If the oracle has been used, cannot be copied, or does not have exactly one
            objective.
    """

    def __init__(
        self,
        oracle: keras_tuner.Oracle,
        objective: keras_tuner.Objective | None = None,
        max_trials: int | None = None,
    ) -> None:
        self._oracle = _copy_oracle(oracle)
        self._oracle.objective = objective or get_oracle_objective(oracle)
        if self._oracle.objective is None:
            raise ArgumentError(
                f"the {type(oracle).__name__} has no objective; pass one, for example "
                'objective=keras_tuner.Objective("val_loss", "min")'
            )
        if max_trials is not None:
            self._oracle.max_trials = max_trials
        # Names that the user declared without a condition are not declared again under one.
        space = self._oracle.hyperparameters.space
        self._declared = {definition.name for definition in space if not definition.conditions}
        # The oracle writes files about its trials, which are not needed: the journal records them.
        self._folder = tempfile.TemporaryDirectory(prefix="cerebros-oracle-")
        set_project_dir(self._oracle, self._folder.name)
        self._oracle.verbose = 0
        self._oracle.max_retries_per_trial = 0
        self._oracle.max_consecutive_failed_trials = _NEVER
        config = self._oracle.hyperparameters.get_config()
        self._oracle.hyperparameters = _DefaultingHyperParameters.from_config(config)
        self._proposals: dict[str, Proposal] = {}
        self._requests = 0
        self._done = False

    @property
    def hyperparameters(self) -> Any:
        """Search space known so far, a ``keras_tuner.HyperParameters``."""
        return self._oracle.get_space()

    def learn(self, hyperparameters: Any) -> None:
        """Add a network's hyperparameters to the oracle's search space.

        Raise ArgumentError if the oracle rejects them.
        """
        new = keras_tuner.HyperParameters()
        new.merge([hp for hp in hyperparameters.space if hp.name not in self._declared])
        try:
            self._oracle.update_space(new)
        except RuntimeError as error:
            raise ArgumentError(
                f"the {type(self._oracle).__name__} does not accept the space's hyperparameters: "
                f"{error}"
            ) from error

    def propose(self) -> Proposal | Pause:
        """Return a trial of the oracle as a proposal, or WAIT or DONE if the oracle has none."""
        if self._done:
            return Pause.DONE
        for trial in self._oracle.trials.values():
            # Oracles resume earlier trials, which need values of hyperparameters learned since.
            hyperparameters = trial.hyperparameters
            hyperparameters.values = self._oracle.hyperparameters.complete(hyperparameters.values)
        self._reset_outdated_surrogate()
        # The oracle runs one trial at a time per name, so every request uses a new name.
        trial = self._oracle.create_trial(f"slot-{self._requests}")
        if trial.status == keras_tuner.engine.trial.TrialStatus.STOPPED:
            self._done = True
            return Pause.DONE
        if trial.status != keras_tuner.engine.trial.TrialStatus.RUNNING:
            return Pause.WAIT
        self._requests += 1
        # A copy, because the oracle adds hyperparameters of other trials to its own.
        hyperparameters = trial.hyperparameters.copy()
        values = hyperparameters.values
        epochs, first = values.get("tuner/epochs"), values.get("tuner/initial_epoch", 0)
        proposal = Proposal(
            trial.trial_id,
            hyperparameters,
            None if epochs is None else epochs - first,
            values.get("tuner/trial_id"),
            first,
        )
        self._proposals[trial.trial_id] = proposal
        return proposal

    def extend(self, max_trials: int | None) -> None:
        """Set the maximum number of trials to ``max_trials``; if None, there is no limit."""
        self._oracle.max_trials = max_trials
        self._done = False

    def observe(self, trial_id: str, epoch: int, logs: dict[str, float]) -> Verdicts:
        """Report an epoch to the oracle, which may stop the trial."""
        finite = {name: value for name, value in logs.items() if math.isfinite(value)}
        if self._oracle.objective.name not in finite:
            return {trial_id: True}
        trial = self._oracle.update_trial(trial_id, finite, step=epoch)
        return {trial_id: trial.status != keras_tuner.engine.trial.TrialStatus.STOPPED}

    def conclude(self, trial_id: str, status: Status) -> Verdicts:
        """Report the end of a trial to the oracle, and return no verdicts."""
        trial = self._oracle.trials[trial_id]
        hyperparameters = self._proposals.pop(trial_id).hyperparameters
        self.learn(hyperparameters)
        # The current search space, with the values that the network was built with.
        trial.hyperparameters = self._oracle.hyperparameters.copy()
        trial.hyperparameters.values = dict(hyperparameters.values)
        trial.hyperparameters.ensure_active_values()
        failed = status is Status.FAILED or not trial.metrics.exists(self._oracle.objective.name)
        trial.status = "FAILED" if failed else "COMPLETED"
        self._oracle.end_trial(trial)
        self._oracle.save()
        return {}

    def _reset_outdated_surrogate(self) -> None:
        """Reset the surrogate of the Bayesian oracle if the space has grown.

        The oracle evaluates trials in flight before it refits the surrogate, which fails if the
        surrogate was fitted with fewer hyperparameters.
        """
        surrogate = getattr(self._oracle, "gpr", None)
        searched = [hp for hp in self._oracle.hyperparameters.space if not isinstance(hp, _FIXED)]
        if getattr(surrogate, "n_features_in_", len(searched)) != len(searched):
            reset_surrogate(self._oracle)


def get_oracle_objective(oracle: keras_tuner.Oracle) -> keras_tuner.Objective | None:
    """Return an oracle's objective, or None if there is none.

    Raise ArgumentError if the oracle has several objectives.
    """
    objective = oracle.objective
    objectives = getattr(objective, "objectives", None)
    if objectives is not None:
        raise ArgumentError(
            "a search has one objective, but the "
            f"{type(oracle).__name__} has {len(objectives)}: {objective}"
        )
    if objective is None or objective.name == "default_objective":
        return None
    return parse_objective(objective)


def _copy_oracle(oracle: keras_tuner.Oracle) -> Any:
    title = type(oracle).__name__
    if oracle.trials:
        raise ArgumentError(
            f"the {title} has been used for {len(oracle.trials)} trials; pass a new one"
        )
    try:
        return copy.deepcopy(oracle)
    except Exception as error:
        raise ArgumentError(f"cannot copy the {title}, which each search needs: {error}") from error


class _DefaultingHyperParameters(keras_tuner.HyperParameters):
    """Hyperparameters whose missing values are replaced with defaults.

    KerasTuner would draw missing values at random, without a seed. If a name is declared under two
    conditions, it would also drop the value, because one of them is not met.
    """

    def copy(self) -> _DefaultingHyperParameters:
        copied: _DefaultingHyperParameters = self.from_config(self.get_config())
        return copied

    def ensure_active_values(self) -> None:
        self.values: dict[str, Any] = self.complete(self.values)

    def complete(self, values: dict[str, Any]) -> dict[str, Any]:
        """Return ``values`` without inactive hyperparameters and with defaults for missing ones."""
        names = {definition.name for definition in self.space}
        completed = {name: value for name, value in values.items() if name not in names}
        for definition in self.space:
            name = definition.name
            if name not in completed and all(c.is_active(completed) for c in definition.conditions):
                completed[name] = values.get(name, definition.default)
        return completed
