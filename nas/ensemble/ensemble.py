"""Ensemble that a search has selected, as frozen values."""

from __future__ import annotations

import msgspec


class Member(msgspec.Struct, frozen=True):
    """Configuration in an ensemble.

    Attributes:
        configuration: Name of its first trial.
        trials: Names of its trials, one for each fold that it was trained on, from fold 0; the
            configuration predicts their mean.
        weight: Its weight; those of all members have a sum of 1.
        score: Its score alone.
    """

    configuration: str
    trials: tuple[str, ...]
    weight: float
    score: float


class Ensemble(msgspec.Struct, frozen=True):
    """Weighted mean of the predictions of several configurations.

    Attributes:
        members: The configurations, with the greatest weight first.
        score: Objective of the ensemble on the rows that it was selected on. No network has been
            trained on the rows that it predicts there; by how much the choice of the best epochs
            makes the predictions of folds too good is added. The selection still makes it a little
            better than it is.
        best_score: Objective of the best configuration on these rows.
        rows: Number of these rows.
        folds: Number of folds that they come from; 1 for a validation split.
        temperature: Temperature that log-odds are divided by; 1 for none.
        calibration: ``log_loss`` and ``ece`` (expected calibration error) without and with the
            temperature; empty unless the output is calibrated.
        baselines: Objective of simple models on these rows: ``constant`` (the mean, or the shares
            of the classes), ``linear`` and ``boosting``.
        metrics: The usual metrics on these rows (:mod:`.usual_metrics`), of the ``ensemble`` and of
            each baseline, by name; empty unless there is one output of numbers or of classes.
        bounds: Least and greatest label of each value of each output of a regression, to which
            predictions are clipped; empty for other outputs.
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
        """Weight of each configuration by name."""
        return {member.configuration: member.weight for member in self.members}
