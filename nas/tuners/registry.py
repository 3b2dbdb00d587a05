"""Registry of tuners by name; each algorithm has its own module."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from cerebros_spark.core.errors import ArgumentError

if TYPE_CHECKING:
    from nas.tuners.base import BaseTuner

#: Module and class of each tuner, as ``module:class``, by tuner name.
TUNERS = {
    "asha": "nas.tuners.algorithms.asha:AshaTuner",
    "bayesian": "nas.tuners.algorithms.bayesian:BayesianTuner",
    "deephyper": "nas.tuners.algorithms.deephyper:DeepHyperTuner",
    "greedy": "nas.tuners.algorithms.greedy:GreedyTuner",
    "grid": "nas.tuners.algorithms.grid:GridTuner",
    "hyperband": "nas.tuners.algorithms.hyperband:HyperbandTuner",
    "portfolio": "nas.tuners.algorithms.portfolio:PortfolioTuner",
    "random": "nas.tuners.algorithms.random:RandomTuner",
}


#: Alternative names, from the AutoKeras extension of Cerebro.
ALIASES = {"gridsearch": "grid", "randomsearch": "random"}


def get_tuner_class(name: str) -> type[BaseTuner]:
    """Return the tuner class with a given name; raise ArgumentError if the name is unknown."""
    if name not in TUNERS:
        names = ", ".join(repr(each) for each in sorted(TUNERS))
        raise ArgumentError(f"there is no tuner called {name!r}; the tuners are {names}")
    module, title = TUNERS[name].split(":")
    kind: type[BaseTuner] = getattr(import_module(module), title)
    return kind
