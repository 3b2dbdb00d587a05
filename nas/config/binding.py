"""What was bound to a search: resources and a tuner, checked."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import keras_tuner

from cerebros_spark.backends.base import Backend
from cerebros_spark.core.errors import ArgumentError
from cerebros_spark.core.validation import check_optional_integer
from cerebros_spark.storage.store import Store
from nas.config.tuner import kind_of
from nas.trial.objective import parse_objective
from nas.trial.proposal import Tuner
from nas.trial.summary import search_space_summary

Columns = list[str | list[str]]

# Trials that train together a worker has use for: enough to run some, to have others wait for it
# and others visit elsewhere.
_TOGETHER = 64


@dataclass(frozen=True)
class Resources:
    """Where to train and on what; see ``HyperHyperModel.resource_bind``."""

    backend: Backend
    store: Store
    feature_columns: Columns | None
    label_columns: Columns | None
    validation: float | str
    evaluation_metric: tuple[Any, ...]
    max_concurrent_trials: int | None
    shard_memory: int
    program_memory: int
    sample_weight_column: str | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.sample_weight_column, str | None):
            raise ArgumentError(
                "sample_weight_column must be the name of a column, but got "
                f"{self.sample_weight_column!r}"
            )
        if not isinstance(self.store, Store):
            raise ArgumentError(
                f"store must be a Store such as LocalStore(prefix_path=...), but got {self.store!r}"
            )
        if not hasattr(self.backend, "num_workers"):
            raise ArgumentError(
                f"backend must be a SparkBackend or a LocalBackend, but got {self.backend!r}"
            )
        for name in ("max_concurrent_trials", "shard_memory", "program_memory"):
            checked = check_optional_integer(name, getattr(self, name), 1)
            object.__setattr__(self, name, checked)

    @property
    def slots(self) -> int:
        """How many trials are in flight at a time."""
        return self.max_concurrent_trials or 2 * self.backend.num_workers

    @property
    def most_slots(self) -> int:
        """How many may be where a worker would have nothing to do otherwise."""
        return self.max_concurrent_trials or 8 * self.backend.num_workers

    def group_slots(self, trials: int | None) -> int:
        """How many may be where they train together, if the tuner learns nothing from them.

        Trials that begin together end together. So there are as many in each wave of them: a few
        in a last wave would take as long as many.

        Args:
            trials: How many there will be, at most; None for any number.
        """
        most = self.max_concurrent_trials or _TOGETHER * self.backend.num_workers
        if trials is None:
            return most
        waves = -(-trials // most)
        return -(-trials // waves)


class TunerBinding:
    """The tuner as it was bound, and the space it searches.

    Args:
        tuner: Name of the tuner; or a ``keras_tuner.Oracle`` or an object with the methods of
            ``nas.trial.proposal.Tuner``, of which each search makes a copy.
        objective: What it optimizes: a metric's name, or a ``keras_tuner.Objective``. None for
            an oracle's own.
        max_trials: Number of trials; None for as many as the tuner has by itself.
        hyperparameters: Overrides of the space.
        max_consecutive_failed_trials: After so many failures in a row the search ends; None for
            never.
        options: Options of the algorithm, by name.
        otherwise: The objective if neither ``objective`` nor the tuner has one.

    Attributes:
        options: As JSON has them; for an oracle its class and its settings.
        code: The tuner or oracle whose code may be custom; None for a name.
    """

    def __init__(
        self,
        tuner: Any,
        objective: Any,
        max_trials: int | None,
        hyperparameters: Any,
        max_consecutive_failed_trials: int | None = 10,
        *,
        options: Mapping[str, Any] | None = None,
        otherwise: Any = "val_loss",
    ) -> None:
        kind = kind_of(tuner, options or {})
        max_trials = check_optional_integer("max_trials", max_trials, 1)
        failed = check_optional_integer(
            "max_consecutive_failed_trials", max_consecutive_failed_trials, 1
        )
        if not isinstance(hyperparameters, keras_tuner.HyperParameters | None):
            raise ArgumentError(
                "hyperparameters must be a keras_tuner.HyperParameters, but got "
                f"{hyperparameters!r}"
            )
        if hyperparameters is not None and not kind.told:
            raise ArgumentError(
                f"hyperparameters are for a tuner's name; give them to the {kind.name} when it "
                "is made"
            )
        self.name = kind.name
        self.code = kind.code
        self.options = kind.options
        own = kind.objective or otherwise
        self.objective = parse_objective(own if objective is None else objective)
        self.max_trials = kind.max_trials if max_trials is None else max_trials
        self.hyperparameters = kind.hyperparameters if hyperparameters is None else hyperparameters
        self.max_consecutive_failed_trials = failed
        self.running: Tuner | None = None
        self.declare: Callable[[Any], Any] | None = None
        self._kind = kind
        self._make(seed=0)  # options that can't be used are told of now

    def make(self, seed: int, epochs: int) -> Tuner:
        """A new tuner of this kind, for trials of so many epochs."""
        self.running = self._make(seed, epochs)
        return self.running

    def _make(self, seed: int, epochs: int | None = None) -> Tuner:
        overrides = None if self.hyperparameters is None else self.hyperparameters.copy()
        return self._kind.make(
            objective=self.objective,
            max_trials=self.max_trials,
            seed=seed,
            hyperparameters=overrides,
            epochs=epochs,
        )

    def search_space_summary(self) -> str:
        """Writes the search space to standard output, and gives it as text.

        Before ``fit`` the space of an AutoKeras graph is not known yet, only the overrides are.
        """
        if self.running:
            known = self.running.hyperparameters
        else:
            overrides = self.hyperparameters
            known = keras_tuner.HyperParameters() if overrides is None else overrides.copy()
            if self.declare is not None:
                self.declare(known)
        text = search_space_summary(known)
        sys.stdout.write(text + "\n")
        return text


def columns_of(argument: str, value: Any) -> Columns | None:
    """Column names as lists; raises ArgumentError if they are something else."""
    if value is None:
        return None
    if isinstance(value, str) or not isinstance(value, Sequence):
        raise ArgumentError(f"{argument} must be a list of column names, but got {value!r}")
    names: Columns = []
    for each in value:
        group = [each] if isinstance(each, str) else each
        if isinstance(group, Sequence) and group and all(isinstance(n, str) for n in group):
            names.append(each if isinstance(each, str) else list(each))
        else:
            raise ArgumentError(f"{argument} must hold column names, but got {each!r}")
    return names
