#!/usr/bin/env python3
"""Compare held-out results of searches with linear models, over seeds.

For each seed the tables of scikit-learn are split 80 to 20. A search and a linear model (ridge,
logistic regression; penalty chosen by cross-validation) learn from the 80 and are scored on the
20.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import tempfile
from pathlib import Path
from typing import Any

# The parent folder has the modules that all scripts share.
sys.path.insert(0, str(Path(__file__).parents[1]))

import _common
import numpy as np


def main() -> None:
    """Run the benchmark and print its table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--trials", type=int, default=16)
    parser.add_argument("--epochs", type=int, default=40)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--json", metavar="FILE", help="also write the figures to FILE")
    args = parser.parse_args()
    _common.prepare_environment()
    rows: list[tuple[str, Any, str]] = []
    for name, score, ours_name in (
        ("diabetes", diabetes, "test mean squared error"),
        ("breast_cancer", breast_cancer, "test accuracy"),
    ):
        pairs = [score(seed, args) for seed in range(args.seeds)]
        for seed, (ours, linear) in enumerate(pairs):
            rows.append(
                (f"{name}, seed {seed}: {ours_name}", float(ours), f"(linear {linear:.4f})")
            )
        ours, linear = zip(*pairs, strict=True)
        rows.append((f"{name}: mean", statistics.mean(ours), ""))
        rows.append((f"{name}: mean, linear model", statistics.mean(linear), ""))
    _common.show("accuracy", rows, args.json)


def diabetes(seed: int, args: argparse.Namespace) -> tuple[float, float]:
    """Return the mean squared error of the search and of ridge regression."""
    import autokeras as ak
    from sklearn.datasets import load_diabetes
    from sklearn.linear_model import RidgeCV
    from sklearn.metrics import mean_squared_error

    x, y, x_test, y_test = split(load_diabetes(), seed)
    linear = RidgeCV(alphas=np.logspace(-3, 3, 25)).fit(x, y)
    search = run_search(ak.RegressionHead(), x, y, seed, args)
    return (
        mean_squared_error(y_test, search.predict(x_test)[:, 0]),
        mean_squared_error(y_test, linear.predict(x_test)),
    )


def breast_cancer(seed: int, args: argparse.Namespace) -> tuple[float, float]:
    """Return the accuracy of the search and of logistic regression."""
    import autokeras as ak
    from sklearn.datasets import load_breast_cancer
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import GridSearchCV
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    x, y, x_test, y_test = split(load_breast_cancer(), seed)
    penalties = {"C": np.logspace(-3, 2, 11)}
    chosen = GridSearchCV(LogisticRegression(max_iter=5000), penalties)
    linear = make_pipeline(StandardScaler(), chosen).fit(x, y)
    search = run_search(ak.ClassificationHead(), x, y, seed, args)
    right = (search.predict(x_test)[:, 0] > 0.5) == y_test
    return float(right.mean()), float(linear.score(x_test, y_test))


def split(data: Any, seed: int) -> tuple[Any, Any, Any, Any]:
    """Return training features and labels, test features and labels."""
    from sklearn.model_selection import train_test_split

    x, x_test, y, y_test = train_test_split(
        data.data, data.target, test_size=0.2, random_state=seed
    )
    return x, y, x_test, y_test


def run_search(head: Any, x: Any, y: Any, seed: int, args: argparse.Namespace) -> Any:
    """Run a search on arrays, without Spark."""
    import autokeras as ak

    from cerebros_spark import LocalBackend, LocalStore
    from nas import CerebrosSpace, HyperHyperModel

    search = HyperHyperModel(
        inputs=ak.Input(),
        outputs=head,
        seed=seed,
        space=CerebrosSpace.published(learning_rate=(0.0664, 0.01, 0.003, 0.001), maximum_levels=4),
    )
    with tempfile.TemporaryDirectory() as folder:
        search.resource_bind(
            backend=LocalBackend(num_workers=args.workers), store=LocalStore(folder)
        )
        search.tuner_bind("random", objective="val_loss", max_trials=args.trials)
        search.fit(x, y, epochs=args.epochs, batch_size=32, verbose=0)
        search.export_model()
    return search


if __name__ == "__main__":
    sys.path.insert(0, os.path.dirname(__file__))
    main()
