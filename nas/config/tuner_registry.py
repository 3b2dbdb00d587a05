"""Tuners by name. One algorithm a file."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import Any

from cerebros_spark.core.errors import ArgumentError

#: name -> module:function; the function takes objective, max_trials, seed, hyperparameters, and
#: its options by keyword.
TUNERS = {
    "asha": "nas.tuners.algorithms.asha:asha_tuner",
    "bayesian": "nas.tuners.algorithms.bayesian:bayesian_tuner",
    "deephyper": "nas.tuners.algorithms.deephyper:deephyper_tuner",
    "greedy": "nas.tuners.algorithms.greedy:greedy_tuner",
    "grid": "nas.tuners.algorithms.grid:grid_tuner",
    "hyperband": "nas.tuners.algorithms.hyperband:hyperband_tuner",
    "random": "nas.tuners.algorithms.random:random_tuner",
}


def tuner_factory(name: str) -> Callable[..., Any]:
    """The function that makes the tuner of that name; raises ArgumentError."""
    if name not in TUNERS:
        known = ", ".join(repr(each) for each in sorted(TUNERS))
        raise ArgumentError(f"there is no tuner called {name!r}; there is {known}")
    module, function = TUNERS[name].split(":")
    made: Callable[..., Any] = getattr(import_module(module), function)
    return made
