"""The search space and the results in words."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras_tuner

from nas.trial.failures import summarize_error
from nas.trial.record import TrialRecord


def search_space_summary(hyperparameters: Any) -> str:
    """The hyperparameters with their ranges and conditions, one a line.

    Args:
        hyperparameters: A ``keras_tuner.HyperParameters``.
    """
    lines = [f"Search space: {len(hyperparameters.space)} hyperparameters"]
    for hp in hyperparameters.space:
        config = dict(hp.get_config())
        name = config.pop("name")
        conditions = [
            f"{each['config']['name']} in {each['config']['values']}"
            for each in config.pop("conditions", [])
        ]
        given = ", ".join(f"{k}={v!r}" for k, v in config.items() if v is not None)
        when = f" if {' and '.join(conditions)}" if conditions else ""
        lines.append(f"  {name}: {type(hp).__name__}({given}){when}")
    return "\n".join(lines)


def results_summary(
    trials: Sequence[TrialRecord], objective: keras_tuner.Objective, place: str
) -> str:
    """Trials with their hyperparameters and scores, as KerasTuner tells them.

    Args:
        trials: The trials, the best first.
        objective: What was optimized.
        place: Where the run lies.
    """
    lines = [f"Results summary of {place}", f"Showing {len(trials)} trials"]
    lines.append(f"Objective(name={objective.name!r}, direction={objective.direction!r})")
    for trial in trials:
        lines += ["", f"{trial.trial_id} summary", "Hyperparameters:"]
        lines += [f"{name}: {value}" for name, value in trial.values.items()]
        if trial.score is None:
            lines.append(f"{trial.status.value}: {summarize_error(trial.error or '')}")
        else:
            lines.append(f"Score: {trial.score}")
    return "\n".join(lines)
