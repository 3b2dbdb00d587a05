"""Binding of a tuner to a search: a name with options, a KerasTuner oracle, or an object."""

from __future__ import annotations

import copy
import dataclasses
import inspect
import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import keras_tuner
import numpy as np

from cerebros_spark.core.errors import ArgumentError
from cerebros_spark.core.validation import check_optional_integer
from nas.trial.objective import parse_objective
from nas.trial.proposal import Tuner
from nas.tuners.algorithms.keras_tuner_oracle import OracleTuner, get_oracle_objective
from nas.tuners.registry import ALIASES, get_tuner_class

_COMMON_OPTIONS = ("objective", "max_trials", "seed", "hyperparameters", "strong_points")
AUTO = "auto"
"""Tuner name that is replaced by the name of a tuner that suits the search space."""

_METHODS = ("learn", "propose", "observe", "conclude")
# Parts of a saved oracle that describe its trials instead of its settings.
_ORACLE_PROGRESS = ("display", "end_order", "id_to_hash", "ongoing_trials", "retry_queue",
                    "run_times", "start_order", "tried_so_far")  # fmt: skip


@dataclass(frozen=True)
class TunerBinding:
    """Validated tuner, with its objective, maximum number of trials and hyperparameter overrides.

    ``factory`` creates the tuner. ``options`` are JSON values, which are compared when a run is
    resumed. ``max_trials`` is None if the tuner alone decides when to stop. ``code`` is a tuner
    object or an oracle's class, which may contain custom code; None if the tuner is given by name.
    """

    name: str
    options: dict[str, Any]
    factory: Callable[..., Tuner]
    objective: keras_tuner.Objective = None
    max_trials: int | None = None
    hyperparameters: Any = None
    max_consecutive_failed_trials: int | None = None
    code: Any = None

    def resolve(self, name: str) -> TunerBinding:
        """Return the binding, with the tuner ``"auto"`` replaced by the one called ``name``."""
        if self.name != AUTO:
            return self
        kind = _from_name(name, {})
        return dataclasses.replace(self, name=name, factory=kind.factory)

    def make(
        self, seed: int, epochs: int | None, points: Sequence[Mapping[str, Any]] = ()
    ) -> Tuner:
        """Create a tuner for trials of at most ``epochs`` epochs; if None, there is no limit.

        ``points`` are configurations of the search space that are known to be strong: dicts of
        values by hyperparameter name. Tuners that do not use them ignore them.
        """
        return self.factory(
            objective=self.objective,
            max_trials=self.max_trials,
            seed=seed,
            hyperparameters=None if self.hyperparameters is None else self.hyperparameters.copy(),
            epochs=epochs,
            strong_points=points,
        )


def bind_tuner(
    tuner: Any,
    objective: Any,
    max_trials: int | None,
    hyperparameters: Any,
    max_consecutive_failed_trials: int | None = 10,
    *,
    options: Mapping[str, Any] | None = None,
    default_objective: Any = "val_loss",
) -> TunerBinding:
    """Validate a tuner and its arguments, and return them as a binding.

    See ``HyperHyperModel.tuner_bind`` for the arguments. ``options`` are those of a tuner given by
    name. ``default_objective`` applies if neither ``objective`` nor the tuner sets one.

    Raises ArgumentError if an argument is invalid.
    """
    kind = _identify(tuner, dict(options or {}))
    max_trials = check_optional_integer("max_trials", max_trials, 1)
    failures = check_optional_integer(
        "max_consecutive_failed_trials", max_consecutive_failed_trials, 1
    )
    if not isinstance(hyperparameters, keras_tuner.HyperParameters | None):
        raise ArgumentError(
            f"hyperparameters must be a keras_tuner.HyperParameters, but got {hyperparameters!r}"
        )
    if hyperparameters is not None and not isinstance(tuner, str):
        raise ArgumentError(
            f"hyperparameters are for a tuner's name; pass them to the {kind.name} when you make it"
        )
    if objective is None:
        objective = kind.objective or default_objective
    binding = dataclasses.replace(
        kind,
        objective=parse_objective(objective),
        max_trials=kind.max_trials if max_trials is None else max_trials,
        hyperparameters=kind.hyperparameters if hyperparameters is None else hyperparameters,
        max_consecutive_failed_trials=failures,
    )
    binding.make(seed=0, epochs=None)  # raises for options that cannot be used
    return binding


def _identify(tuner: Any, options: dict[str, Any]) -> TunerBinding:
    if isinstance(tuner, str):
        return _from_name(tuner, options)
    if options:
        raise ArgumentError(
            f"{', '.join(sorted(options))}: options are for a tuner's name; pass them to the "
            f"{type(tuner).__name__} when you make it"
        )
    if isinstance(tuner, keras_tuner.Oracle):
        return _from_oracle(tuner)
    if all(callable(getattr(tuner, name, None)) for name in _METHODS):
        config: Any = getattr(tuner, "get_config", dict)()
        return TunerBinding(
            name=_get_class_name(tuner),
            options=_replace_non_finite(json.loads(json.dumps(config, default=repr))),
            factory=lambda **_: copy.deepcopy(tuner),
            max_trials=getattr(tuner, "max_trials", None),
            code=tuner,
        )
    raise ArgumentError(
        "tuner must be a name, a keras_tuner.Oracle, or an object with the methods of nas.Tuner, "
        f"but got {tuner!r}"
    )


def _from_name(name: str, options: dict[str, Any]) -> TunerBinding:
    name = ALIASES.get(name, name)
    factory = get_tuner_class("random" if name == AUTO else name)
    options = {
        option: value.item() if isinstance(value, np.generic) else value
        for option, value in options.items()
    }
    parameters = list(inspect.signature(factory).parameters.values())
    known = [
        each.name
        for each in parameters
        if each.kind is each.KEYWORD_ONLY and each.name not in _COMMON_OPTIONS
    ]
    for option in options:
        if option not in known:
            names = ", ".join(repr(each) for each in sorted(known)) or "none"
            raise ArgumentError(
                f"the tuner {name!r} has no option {option!r}; its options are: {names}"
            )
    try:
        as_json = json.loads(json.dumps(options))
    except (TypeError, ValueError) as error:
        raise ArgumentError(
            f"the options of the tuner {name!r} must be numbers, strings, lists and dicts: {error}"
        ) from error

    takes_points = any(each.name == "strong_points" for each in parameters)

    def make(
        *, epochs: int | None, strong_points: Sequence[Mapping[str, Any]] = (), **common: Any
    ) -> Tuner:
        chosen = copy.deepcopy(options)
        if takes_points:
            common["strong_points"] = strong_points
        if "max_epochs" in known and epochs is not None:
            chosen.setdefault("max_epochs", epochs)
            if chosen["max_epochs"] > epochs:
                raise ArgumentError(
                    f"max_epochs of the tuner {name!r} is {chosen['max_epochs']}, but trials are "
                    f"trained for {epochs}; leave it out, or pass as many epochs to fit()"
                )
        tuner: Tuner = factory(**common, **chosen)
        return tuner

    return TunerBinding(name=name, options=as_json, factory=make)


def _from_oracle(oracle: keras_tuner.Oracle) -> TunerBinding:
    original = copy.copy(oracle)

    def make(*, objective: keras_tuner.Objective, max_trials: int | None, **_: Any) -> OracleTuner:
        return OracleTuner(original, objective, max_trials)

    values = oracle.get_state().items()
    settings = {name: value for name, value in values if name not in _ORACLE_PROGRESS}
    settings |= {"tune_new_entries": oracle.tune_new_entries, "class": _get_class_name(oracle)}
    return TunerBinding(
        name=type(oracle).__name__,
        options=_replace_non_finite(json.loads(json.dumps(settings, default=repr))),
        factory=make,
        objective=get_oracle_objective(oracle),
        max_trials=oracle.max_trials,
        hyperparameters=oracle.hyperparameters,
        code=type(oracle),  # its settings are among the options
    )


def _get_class_name(value: Any) -> str:
    return f"{type(value).__module__}.{type(value).__qualname__}"


def _replace_non_finite(value: Any) -> Any:
    """Replace non-finite numbers, which are not valid JSON, with strings such as ``"inf"``."""
    if isinstance(value, dict):
        return {name: _replace_non_finite(each) for name, each in value.items()}
    if isinstance(value, list):
        return [_replace_non_finite(each) for each in value]
    return repr(value) if isinstance(value, float) and not math.isfinite(value) else value
