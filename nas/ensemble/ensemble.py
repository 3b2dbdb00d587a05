"""Immutable record of the ensemble that a search has selected."""

from __future__ import annotations

import msgspec


class Member(msgspec.Struct, frozen=True):
    """Member of an ensemble: a configuration with its weight.

    Attributes:
        configuration: Name of the configuration, which is that of its first trial.
        trials: Names of its trials, one per fold that it was trained on, from fold 0; the
            configuration's prediction is the mean over these trials.
        weight: Its weight; the weights of all members sum to 1.
        score: Value of the objective when the member is used alone.
    """

    configuration: str
    trials: tuple[str, ...]
    weight: float
    score: float


class Ensemble(msgspec.Struct, frozen=True):
    """Ensemble whose prediction is the weighted mean of its members' predictions.

    Attributes:
        members: The members, in order of descending weight.
        score: Value of the objective on the rows that were used to select the ensemble; no network
            predicts rows that it was trained on. The score is corrected for the choice of the best
            epoch in each fold, but not for the selection, so it is slightly too good.
        best_score: Value of the objective for the best single configuration on these rows.
        rows: Number of these rows.
        folds: Number of folds that these rows come from; 1 for a validation split.
        temperature: Temperature that calibrates probabilities: log-odds are divided by it; 1 leaves
            them unchanged.
        calibration: ``log_loss`` and ``ece`` (expected calibration error), each without and with
            the temperature; empty if the output is not calibrated.
        baselines: Value of the objective for each baseline on these rows: ``constant`` (the mean or
            the class frequencies), ``linear`` (a linear model) and ``boosting`` (boosted trees).
        metrics: Metrics such as RMSE or accuracy on these rows (see :mod:`.usual_metrics`), for
            ``ensemble`` and each baseline, by name; empty unless there is a single output that
            predicts numbers or classes.
        bounds: Minimum and maximum label for each value of each output of a regression, to which
            predictions are clipped; empty if they are not clipped.
    """

    members: tuple[Member, ...]
    score: float
    best_score: float
    rows: int
    folds: int = 1
    temperature: float = 1.0
    calibration: dict[str, tuple[float, float]] = {}
    bounds: tuple[tuple[tuple[float, float], ...], ...] = ()
    baselines: dict[str, float] = {}
    metrics: dict[str, dict[str, float]] = {}

    @property
    def trials(self) -> tuple[str, ...]:
        """Names of the trials of all members."""
        return tuple(trial for member in self.members for trial in member.trials)

    @property
    def weights(self) -> dict[str, float]:
        """Weight of each member by configuration name."""
        return {member.configuration: member.weight for member in self.members}
