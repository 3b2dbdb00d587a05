#!/usr/bin/env python3
"""Compare every tuner with random search at the same budget of epochs.

The problems are four tables of scikit-learn: the engine trains every multi-layer perceptron of a
finite space once, and their learning curves are the problem. Two cheap functions with learning
curves are added. Each tuner then searches from several seeds, with trials that finish
asynchronously in virtual time.
"""

from __future__ import annotations

import argparse
import functools
import heapq
import json
import math
import os
import statistics
import sys
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

# The parent folder has the modules that all scripts share.
sys.path.insert(0, str(Path(__file__).parents[1]))

import _common
import numpy as np

TUNERS = ("random", "grid", "greedy", "bayesian", "asha", "hyperband")
TABLES = ("diabetes", "breast_cancer", "wine", "digits")


def main() -> None:
    """Run the benchmark and print its tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--trials", type=int, default=24, help="budget, in full trials")
    parser.add_argument("--epochs", type=int, default=16, help="epochs of a full trial")
    parser.add_argument("--in-flight", type=int, default=4, help="trials in flight")
    parser.add_argument("--tuners", nargs="+", default=list(TUNERS))
    parser.add_argument("--tables", metavar="FOLDER", help="folder that keeps the learning curves")
    parser.add_argument("--json", metavar="FILE", help="also write the figures to FILE")
    args = parser.parse_args()
    _common.prepare_environment()
    with tempfile.TemporaryDirectory() as folder:
        kept = Path(args.tables or folder)
        kept.mkdir(parents=True, exist_ok=True)
        problems = [table_problem(name, args.epochs, kept) for name in TABLES]
    problems += [Problem("branin", branin_space, branin), Problem("mixed", mixed_space, mixed)]
    _common.show("tuners", figures(problems, args), args.json)


# Problems --------------------------------------------------------------------------------


@dataclass(frozen=True)
class Problem:
    """A problem: ``curve(values, epoch)`` is the validation loss after that epoch."""

    name: str
    declare: Callable[[Any], None]
    curve: Callable[[Mapping[str, Any], int], float]


def mlp_space(hp: Any) -> None:
    """Declare a finite space of 240 multi-layer perceptrons."""
    hp.Int("units", 4, 64, step=2, sampling="log")
    hp.Int("layers", 1, 2)
    hp.Float("learning_rate", 1e-4, 10**-1.5, step=10**0.5, sampling="log")
    hp.Choice("activation", ["relu", "tanh"])
    hp.Boolean("dropout")


def key(values: Mapping[str, Any]) -> str:
    """Return a combination's name in the table."""
    rate = f"{values['learning_rate']:.4g}"
    return "/".join([*(str(values[n]) for n in ("units", "layers", "activation", "dropout")), rate])


def table_problem(name: str, epochs: int, folder: Path) -> Problem:
    """Return the learning curves of a scikit-learn table's networks; train them if missing."""
    path = folder / f"{name}-{epochs}.json"
    if not path.exists():
        path.write_text(json.dumps(train_all(name, epochs)))
    curves = json.loads(path.read_text())
    return Problem(name, mlp_space, lambda values, epoch: curves[key(values)][epoch])


def train_all(name: str, epochs: int) -> dict[str, list[float]]:
    """Train every network of the space; return the validation loss at each epoch."""
    import sklearn.datasets

    from cerebros_spark import LocalBackend, LocalStore
    from nas import HyperHyperModel

    data = getattr(sklearn.datasets, f"load_{name}")()
    x = (data.data - data.data.mean(axis=0)) / (data.data.std(axis=0) + 1e-9)
    y = data.target.astype("int64")
    classes = 0 if name == "diabetes" else int(y.max()) + 1
    if not classes:
        y = (data.target - data.target.mean()) / data.target.std()
    with tempfile.TemporaryDirectory() as folder:
        search = HyperHyperModel(
            hypermodel=functools.partial(network, width=x.shape[1], classes=classes),
            project_name=name,
            max_trials=None,
            tuner="grid",
            seed=0,
        )
        search.resource_bind(backend=LocalBackend(num_workers=1), store=LocalStore(folder))
        search.fit(x, y, epochs=epochs, verbose=0, reproducible=True)
        return {key(trial.values): trial.history["val_loss"] for trial in search.result.trials}


def network(hp: Any, width: int, classes: int) -> Any:
    """Return a multi-layer perceptron; a classifier unless there are no classes."""
    import keras

    mlp_space(hp)
    layers: list[Any] = [keras.Input((width,))]
    for _ in range(hp.get("layers")):
        layers.append(keras.layers.Dense(hp.get("units"), hp.get("activation")))
        if hp.get("dropout"):
            layers.append(keras.layers.Dropout(0.3))
    layers.append(keras.layers.Dense(classes or 1, "softmax" if classes else None))
    model = keras.Sequential(layers)
    loss = "sparse_categorical_crossentropy" if classes else "mse"
    model.compile(keras.optimizers.Adam(hp.get("learning_rate")), loss)
    return model


def branin_space(hp: Any) -> None:
    """Declare the usual domain of Branin's function."""
    hp.Float("x", -5.0, 10.0)
    hp.Float("y", 0.0, 15.0)


def branin(values: Mapping[str, Any], epoch: int) -> float:
    """Return Branin's function, the limit of a learning curve."""
    x, y = values["x"], values["y"]
    b, c = 5.1 / (4 * math.pi**2), 5 / math.pi
    value = (y - b * x**2 + c * x - 6) ** 2 + 10 * (1 - 1 / (8 * math.pi)) * math.cos(x) + 10
    return add_learning_curve(value, 20.0, values, epoch)


def mixed_space(hp: Any) -> None:
    """Declare a rate, a size, and a kind of which one value has its own parameter."""
    hp.Float("rate", 1e-5, 1.0, sampling="log")
    hp.Int("size", 1, 100)
    hp.Choice("kind", ["plain", "other", "tuned"])
    with hp.conditional_scope("kind", ["tuned"]):
        hp.Float("strength", 0.0, 1.0)


def mixed(values: Mapping[str, Any], epoch: int) -> float:
    """Return a function that is best at a rate of 0.003, a size of 60 and a strength of 0.3."""
    value = (math.log10(values["rate"]) + 2.5) ** 2 + ((values["size"] - 60) / 40) ** 2
    kind = {"plain": 1.0, "other": 2.0}.get(values["kind"])
    value += abs(values["strength"] - 0.3) * 3 if kind is None else kind
    return add_learning_curve(value, 4.0, values, epoch)


def add_learning_curve(value: float, above: float, values: Mapping[str, Any], epoch: int) -> float:
    """Return a learning curve towards a value, with noise; its speed depends on the values."""
    from cerebros_spark.core.seeding import derive_seed

    generator = np.random.default_rng(derive_seed(0, *sorted(map(str, values.values()))))
    speed = generator.uniform(2.0, 6.0)
    noise = generator.normal(scale=0.05 * above, size=epoch + 1)[-1]
    return value + (above + noise) * math.exp(-(epoch + 1) / speed)


# Searches --------------------------------------------------------------------------------


@dataclass
class Course:
    """The course of a search: epochs spent and best loss so far, at each improvement."""

    spent: list[int] = field(default_factory=list)
    best: list[float] = field(default_factory=list)

    def note(self, epochs: int, loss: float) -> None:
        """Record a finished epoch."""
        if not self.best or loss < self.best[-1]:
            self.spent.append(epochs)
            self.best.append(loss)

    def reaches(self, loss: float) -> int | None:
        """Return the epochs needed to reach a loss; None if it was not reached."""
        at = (spent for spent, best in zip(self.spent, self.best, strict=True) if best <= loss)
        return next(at, None)


class Search:
    """One search in virtual time: every epoch takes equally long and ends by itself."""

    def __init__(self, problem: Problem, tuner: Any, epochs: int, in_flight: int) -> None:
        self.course = Course()
        self._problem = problem
        self._tuner = tuner
        self._epochs = epochs
        self._in_flight = in_flight
        self._now = 0
        self._queue: list[tuple[int, int, str]] = []  # end of its next epoch, number, name
        self._done: dict[str, int] = {}  # finished epochs of running trials
        self._values: dict[str, Any] = {}
        self._exhausted = False

    def run(self, budget: int) -> Course:
        """Run until the epochs are spent or no candidates are left."""
        for spent in range(1, budget + 1):
            self._propose()
            if not self._queue:
                break
            self._epoch(spent)
        return self.course

    def _propose(self) -> None:
        from nas.trial.proposal import Pause

        while not self._exhausted and len(self._queue) < self._in_flight:
            proposal = self._tuner.propose()
            self._exhausted = proposal is Pause.DONE
            if isinstance(proposal, Pause):
                return
            name = proposal.trial_id
            self._done[name] = 0
            self._values[name] = dict(proposal.hyperparameters.values)
            heapq.heappush(self._queue, (self._now + 1, len(self._values), name))

    def _epoch(self, spent: int) -> None:
        self._now, _, name = heapq.heappop(self._queue)
        loss = self._problem.curve(self._values[name], self._done[name])
        self.course.note(spent, loss)
        verdicts = dict(self._tuner.observe(name, self._done[name], {"val_loss": loss}))
        self._done[name] += 1
        if self._done[name] >= self._epochs:
            verdicts[name] = False
        self._obey(verdicts)

    def _obey(self, verdicts: Mapping[str, bool]) -> None:
        from cerebros_spark.core.types import Status

        for name, goes_on in verdicts.items():
            if goes_on and name in self._done:
                number = list(self._values).index(name) + 1
                heapq.heappush(self._queue, (self._now + 1, number, name))
            elif name in self._done:
                whole = self._done.pop(name) >= self._epochs
                end = Status.COMPLETED if whole else Status.STOPPED
                self._obey(self._tuner.conclude(name, end))


def run_search(problem: Problem, tuner: str, seed: int, args: argparse.Namespace) -> Course:
    """Return the course of one search."""
    tuner_object = create_tuner(problem, tuner, seed, args)
    return Search(problem, tuner_object, args.epochs, args.in_flight).run(args.trials * args.epochs)


def create_tuner(problem: Problem, tuner: str, seed: int, args: argparse.Namespace) -> Any:
    """Return a tuner that has learned the problem's space."""
    import keras_tuner

    from nas.tuners.registry import get_tuner_class

    halving = tuner in ("asha", "hyperband")
    options = {"max_epochs": args.epochs} if tuner == "hyperband" else {}
    tuner_object = get_tuner_class(tuner)(
        objective=keras_tuner.Objective("val_loss", "min"),
        # Tuners that stop trials early may start more of them.
        max_trials=args.trials * (args.epochs if halving else 1),
        seed=seed,
        **options,
    )
    known = tuner_object.hyperparameters
    problem.declare(known)
    tuner_object.learn(known)
    return tuner_object


# Figures ---------------------------------------------------------------------------------


def figures(problems: list[Problem], args: argparse.Namespace) -> list[tuple[str, Any, str]]:
    """Return ranks, scores, and the epochs that halving saves."""
    rows: list[tuple[str, Any, str]] = []
    ranks: dict[str, list[float]] = {tuner: [] for tuner in args.tuners}
    shares: dict[str, list[float]] = {tuner: [] for tuner in args.tuners}
    for problem in problems:
        courses = {
            tuner: [run_search(problem, tuner, seed, args) for seed in range(args.seeds)]
            for tuner in args.tuners
        }
        for tuner, results in courses.items():
            mean = statistics.mean(course.best[-1] for course in results)
            rows.append((f"{problem.name}: {tuner}, mean of the final scores", mean, ""))
        for seed in range(args.seeds):
            finals = [courses[tuner][seed].best[-1] for tuner in args.tuners]
            for tuner, final in zip(args.tuners, finals, strict=True):
                better = sum(other < final for other in finals)
                equal = sum(other == final for other in finals)
                ranks[tuner].append(better + (equal + 1) / 2)
                taken = courses[tuner][seed].reaches(courses["random"][seed].best[-1])
                budget = args.trials * args.epochs
                shares[tuner].append(2.0 if taken is None else taken / budget)
    for tuner in args.tuners:
        rows.append(
            (f"{tuner}: mean rank of {len(args.tuners)}", statistics.mean(ranks[tuner]), "")
        )
    for tuner in args.tuners:
        share = statistics.median(shares[tuner])
        rows.append((f"{tuner}: share of random's epochs to its final score, median", share, ""))
    return rows


if __name__ == "__main__":
    sys.path.insert(0, os.path.dirname(__file__))
    main()
