"""Text summaries of a search space and its trials, and the tuner methods that print them."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import keras_tuner
from keras import Model

from nas.trial.failures import summarize_error
from nas.trial.record import TrialRecord

if TYPE_CHECKING:
    from nas.results.result import ModelSelectionResult


class TunerSummary:
    """Read-only object with the summary methods of ``keras_tuner.Tuner`` for a search.

    Args:
        space: Function that returns the search space known so far, as a
            ``keras_tuner.HyperParameters``.
        result: Function that returns the search result; raises NotFittedError before ``fit``.
    """

    def __init__(
        self,
        space: Callable[[], keras_tuner.HyperParameters],
        result: Callable[[], ModelSelectionResult],
    ) -> None:
        self._space = space
        self._result = result

    def search_space_summary(self) -> str:
        """Print a description of the search space and return it.

        Before ``fit``, only the overrides of an AutoKeras graph or a ``hypermodel`` are known.
        """
        return print_text(describe_space(self._space()))

    def results_summary(self, num_trials: int = 10) -> str:
        """Print a description of the best ``num_trials`` trials and return it."""
        return self._result().results_summary(num_trials)

    def get_best_hyperparameters(self, num_trials: int = 1) -> list[keras_tuner.HyperParameters]:
        """Return the hyperparameters of the best ``num_trials`` trials with a score, best first."""
        return self._result().get_best_hyperparameters(num_trials)

    def get_best_models(self, num_models: int = 1) -> list[Model]:
        """Return the networks of the best ``num_models`` trials with a score, best first."""
        return self._result().get_best_models(num_models)


def print_text(text: str) -> str:
    """Print ``text`` to standard output and return it."""
    sys.stdout.write(text + "\n")
    return text


def describe_space(hyperparameters: Any) -> str:
    """Describe a ``keras_tuner.HyperParameters`` with one line per hyperparameter."""
    lines = [f"Search space: {len(hyperparameters.space)} hyperparameters"]
    for hp in hyperparameters.space:
        config = dict(hp.get_config())
        name = config.pop("name")
        conditions = [
            f"{each['config']['name']} in {each['config']['values']}"
            for each in config.pop("conditions", [])
        ]
        arguments = ", ".join(f"{k}={v!r}" for k, v in config.items() if v is not None)
        condition = f" if {' and '.join(conditions)}" if conditions else ""
        lines.append(f"  {name}: {type(hp).__name__}({arguments}){condition}")
    return "\n".join(lines)


def describe_trials(
    trials: Sequence[TrialRecord], objective: keras_tuner.Objective, address: str
) -> str:
    """Describe trials with hyperparameters and scores in KerasTuner's format.

    The first line names ``address``, the location of the results.
    """
    lines = [f"Results summary of {address}", f"Showing {len(trials)} trials"]
    lines.append(f"Objective(name={objective.name!r}, direction={objective.direction!r})")
    for trial in trials:
        lines += ["", f"{trial.trial_id} summary", "Hyperparameters:"]
        lines += [f"{name}: {value}" for name, value in trial.values.items()]
        if trial.score is None:
            lines.append(f"{trial.status.value}: {summarize_error(trial.error or '')}")
        else:
            lines.append(f"Score: {trial.score}")
    return "\n".join(lines)
