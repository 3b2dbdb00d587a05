"""What a user may pass as a tuner: a name with options, a KerasTuner oracle, or a tuner."""

from __future__ import annotations

import copy
import inspect
import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import keras_tuner
import numpy as np

from cerebros_spark.core.errors import ArgumentError
from nas.config.tuner_registry import tuner_factory
from nas.trial.proposal import Tuner
from nas.tuners.algorithms.keras_tuner_oracle import OracleTuner, oracle_objective

_COMMON = ("objective", "max_trials", "seed", "hyperparameters")
_METHODS = ("learn", "propose", "observe", "conclude")
# What an oracle's state says of its trials, not of what was asked for.
_PASSING = ("display", "end_order", "id_to_hash", "ongoing_trials", "retry_queue", "run_times",
            "start_order", "tried_so_far")  # fmt: skip


@dataclass(frozen=True)
class TunerKind:
    """A tuner as it was passed, checked.

    Attributes:
        name: The tuner's name, or the name of its class.
        options: What decides about its proposals besides objective, number of trials, seed and
            overrides, as JSON has it: a resumed run compares it.
        make: Makes a new tuner from objective, max_trials, seed, hyperparameters (overrides) and
            the epochs of a trial.
        objective: What it optimizes by itself; None if it is told.
        max_trials: Its own number of trials; None if it is told, or has none.
        hyperparameters: Its own overrides; None if it is told.
        told: Whether it takes the objective, trials and overrides of the search.
        code: The tuner or oracle itself, whose code may be custom; None for a name.
    """

    name: str
    options: dict[str, Any]
    make: Callable[..., Tuner]
    objective: keras_tuner.Objective | None = None
    max_trials: int | None = None
    hyperparameters: Any = None
    told: bool = False
    code: Any = None


def kind_of(tuner: Any, options: Mapping[str, Any]) -> TunerKind:
    """What was passed as a tuner.

    Args:
        tuner: A name, a ``keras_tuner.Oracle``, or an object with a tuner's methods.
        options: Options of the algorithm, for a name.

    Raises:
        ArgumentError: If it is none of them, or has no such options.
    """
    if isinstance(tuner, str):
        return _named(tuner, dict(options))
    if options:
        raise ArgumentError(
            f"{', '.join(sorted(options))}: options are for a tuner's name; give them to the "
            f"{type(tuner).__name__} when it is made"
        )
    if isinstance(tuner, keras_tuner.Oracle):
        return _oracle(tuner)
    if all(callable(getattr(tuner, name, None)) for name in _METHODS):
        return TunerKind(
            name=_class(tuner),
            options=_settings(tuner),
            make=lambda **_: copy.deepcopy(tuner),
            max_trials=getattr(tuner, "max_trials", None),
            code=tuner,
        )
    raise ArgumentError(
        "tuner must be a name, a keras_tuner.Oracle, or an object with the methods of "
        f"nas.trial.proposal.Tuner, but got {tuner!r}"
    )


def _named(name: str, options: dict[str, Any]) -> TunerKind:
    factory = tuner_factory(name)
    options = {
        option: value.item() if isinstance(value, np.generic) else value
        for option, value in options.items()
    }
    known = [each for each in inspect.signature(factory).parameters if each not in _COMMON]
    for option in options:
        if option not in known:
            listed = ", ".join(repr(each) for each in sorted(known)) or "none"
            raise ArgumentError(
                f"the tuner {name!r} has no option {option!r}; its options are: {listed}"
            )
    try:
        written = json.loads(json.dumps(options))
    except (TypeError, ValueError) as error:
        raise ArgumentError(
            f"the options of the tuner {name!r} must be numbers, texts, lists and dicts: {error}"
        ) from error

    def make(*, epochs: int | None, **common: Any) -> Tuner:
        given = copy.deepcopy(options)
        if "max_epochs" in known and epochs is not None:
            given.setdefault("max_epochs", epochs)
            if given["max_epochs"] > epochs:
                raise ArgumentError(
                    f"max_epochs of the tuner {name!r} is {given['max_epochs']}, but trials are "
                    f"trained for {epochs}; leave it out, or give fit() as many epochs"
                )
        tuner: Tuner = factory(**common, **given)
        return tuner

    return TunerKind(name=name, options=written, make=make, told=True)


def _oracle(oracle: keras_tuner.Oracle) -> TunerKind:
    kept = copy.copy(oracle)

    def make(*, objective: keras_tuner.Objective, max_trials: int | None, **_: Any) -> OracleTuner:
        return OracleTuner(kept, objective, max_trials)

    state = {name: value for name, value in oracle.get_state().items() if name not in _PASSING}
    settings = {"tune_new_entries": oracle.tune_new_entries, "class": _class(oracle)}
    return TunerKind(
        name=type(oracle).__name__,
        options=_finite(json.loads(json.dumps({**state, **settings}, default=repr))),
        make=make,
        objective=oracle_objective(oracle),
        max_trials=oracle.max_trials,
        hyperparameters=oracle.hyperparameters,
        code=type(oracle),  # its settings are among the options
    )


def _settings(tuner: Any) -> dict[str, Any]:
    """What a tuner object tells of itself, if it does."""
    config: Any = getattr(tuner, "get_config", dict)()
    written: dict[str, Any] = json.loads(json.dumps(config, default=repr))
    return _finite(written)


def _class(thing: Any) -> str:
    return f"{type(thing).__module__}.{type(thing).__qualname__}"


def _finite(value: Any) -> Any:
    """With numbers that JSON has no word for as texts: Hyperband may iterate for ever."""
    if isinstance(value, dict):
        return {name: _finite(each) for name, each in value.items()}
    if isinstance(value, list):
        return [_finite(each) for each in value]
    return repr(value) if isinstance(value, float) and not math.isfinite(value) else value
