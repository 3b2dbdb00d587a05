#!/usr/bin/env python3
"""Compare a search on raw tables with linear models, boosted trees and other networks.

Every method gets the same rows: four fifths to train, the last fifth to score, by the root mean
squared error or the log loss. A method whose package is missing is skipped, so that the peers may
be installed in another environment: run it there with the same ``--json`` file, which is extended,
and print the comparison with ``--summary``.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
import traceback
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

# The parent folder has the modules that all scripts share.
sys.path.insert(0, str(Path(__file__).parents[1]))

import numpy as np
import pandas as pd
from _tables import Table

# Chosen before any measurement: public, raw, of 400 to 59,000 rows, twelve of more than 3,000, ten
# of each task; with strings, missing values, dates, skewed amounts, many and few columns.
TABLES = (
    Table("ggplot2", "diamonds", "price", False),
    Table("modeldata", "Chicago", "ridership", False, (), ("date",)),
    Table("openintro", "loans_full_schema", "interest_rate", False, ("grade", "sub_grade")),
    Table("modeldata", "hotel_rates", "avg_price_per_room", False, (), ("arrival_date",)),
    Table("ggplot2movies", "movies", "rating", False, tuple(f"r{i}" for i in range(1, 11))),
    Table("AER", "CPS1988", "wage", False),
    Table("Ecdat", "Computers", "price", False),
    Table("modeldata", "ames", "Sale_Price", False),
    Table("modeldata", "concrete", "compressive_strength", False),
    Table("sklearn", "diabetes", "target", False),
    Table("modeldata", "lending_club", "Class", True),
    Table("modeldata", "mlc_churn", "churn", True),
    Table("modeldata", "wa_churn", "churn", True),
    Table("modeldata", "credit_data", "Status", True),
    Table("DAAG", "spam7", "yesno", True),
    Table("AER", "HMDA", "deny", True),
    Table("ISLR", "OJ", "Purchase", True),
    Table("modeldata", "attrition", "Attrition", True),
    Table("carData", "TitanicSurvival", "survived", True),
    Table("sklearn", "breast_cancer", "target", True),
)


@dataclass(frozen=True)
class Task:
    """A table split for one seed; ``y`` are floats, or indices of the classes."""

    table: Table
    train: pd.DataFrame
    test: pd.DataFrame
    y: np.ndarray
    y_test: np.ndarray
    classes: int
    seed: int
    seconds: float

    @property
    def is_class(self) -> bool:
        """Whether the label is a class."""
        return self.table.is_class

    def score(self, predicted: np.ndarray) -> float:
        """Return the log loss of probabilities (rows, classes), or the RMSE of numbers."""
        if self.is_class:
            p = np.clip(predicted, 1e-7, 1)
            p = p / p.sum(axis=1, keepdims=True)
            return float(-np.log(p[np.arange(len(p)), self.y_test]).mean())
        return float(np.sqrt(np.mean((self.y_test - predicted.reshape(-1)) ** 2)))


def make_task(table: Table, seed: int, seconds: float | None) -> Task:
    """Split a table."""
    frame = table.load()
    order = np.random.default_rng(seed).permutation(len(frame))
    fifth = len(frame) // 5
    label = frame.pop(table.label)
    if table.is_class:
        names, values = np.unique(label.astype(str), return_inverse=True)
        count = len(names)
    else:
        values, count = label.to_numpy(float), 0
    test, train = order[:fifth], order[fifth:]
    limit = seconds or (120.0 if len(frame) < 5000 else 240.0)
    return Task(
        table, frame.iloc[train], frame.iloc[test], values[train], values[test], count, seed, limit
    )


# Methods ---------------------------------------------------------------------------------


def run_ours(task: Task, **options: Any) -> np.ndarray:
    """Search with the defaults and a time limit."""
    import autokeras as ak

    from nas import HyperHyperModel

    head = ak.ClassificationHead() if task.is_class else ak.RegressionHead()
    train = task.train.assign(**{task.table.label: task.y})
    with tempfile.TemporaryDirectory() as folder:
        search = HyperHyperModel(ak.Input(), head, directory=folder, seed=task.seed, **options)
        result = search.fit(
            train, task.table.label, max_seconds=task.seconds, verbose=_FIT["verbose"]
        )
        if _FIT["verbose"]:
            _describe(task, result)
        return _widen(np.asarray(search.predict(task.test)), task)


def run_cerebros(task: Task) -> np.ndarray:
    """Search Cerebros networks alone."""
    from nas import CerebrosSpace

    return run_ours(task, space=CerebrosSpace(), max_trials=20)


_FIT: dict[str, Any] = {"verbose": 0}


def _describe(task: Task, result: Any) -> None:
    """Print how trials and ensemble do on the test rows."""
    frame = result.leaderboard()
    frame["family"] = [
        next(t.values.get("family", "") for t in result.trials if t.trial_id == name)
        for name in frame["trial"]
    ]
    rows = []
    for name in frame["trial"]:
        try:
            model = result.get_model(name)
            rows.append(
                task.score(_widen(model.predict(result.model_inputs(task.test), verbose=0), task))
            )
        except Exception:
            rows.append(float("nan"))
    frame["test"] = rows
    print(frame.drop(columns=["error", "traceback"]).to_string())
    print(result.ensemble)
    test = task.score(_widen(result.predict_arrays(task.test), task))
    print(f"{task.table.name}: ensemble {test:.5g}, best {rows[0]:.5g}, oracle {min(rows):.5g}")


def _widen(predicted: np.ndarray, task: Task) -> np.ndarray:
    if task.is_class and predicted.shape[1] == 1:
        return np.concatenate([1 - predicted, predicted], axis=1)
    return predicted


def _split_dates(frame: pd.DataFrame) -> pd.DataFrame:
    frame = frame.copy()
    for name in frame.select_dtypes("datetime").columns:
        dates = frame.pop(name)
        for part in ("year", "month", "dayofweek", "dayofyear"):
            frame[f"{name}_{part}"] = getattr(dates.dt, part)
        frame[f"{name}_days"] = (dates - pd.Timestamp("2000-01-01")).dt.days
    return frame


def _encode(task: Task) -> tuple[np.ndarray, np.ndarray]:
    """Encode by hand: one-hot, imputed, standardized."""
    from sklearn.compose import make_column_transformer
    from sklearn.impute import SimpleImputer
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import OneHotEncoder, StandardScaler

    train, test = _split_dates(task.train), _split_dates(task.test)
    numbers = list(train.select_dtypes(["number", "bool"]).columns)
    others = [name for name in train if name not in numbers]
    train[others], test[others] = train[others].astype(str), test[others].astype(str)
    transformer = make_column_transformer(
        (make_pipeline(SimpleImputer(add_indicator=True), StandardScaler()), numbers),
        (
            OneHotEncoder(
                min_frequency=5, max_categories=100, handle_unknown="infrequent_if_exist"
            ),
            others,
        ),
        sparse_threshold=0,
    )
    return transformer.fit_transform(train), transformer.transform(test)


def run_linear(task: Task) -> np.ndarray:
    """Ridge or logistic regression with a tuned penalty."""
    from sklearn.linear_model import LogisticRegressionCV, RidgeCV

    x, x_test = _encode(task)
    if task.is_class:
        model = LogisticRegressionCV(Cs=8, scoring="neg_log_loss", max_iter=1000, cv=5)
        return model.fit(x, task.y).predict_proba(x_test)
    return RidgeCV(np.logspace(-2, 4, 13)).fit(x, task.y).predict(x_test)


def run_mlp(task: Task) -> np.ndarray:
    """scikit-learn's perceptron with its defaults; labels of regressions standardized."""
    from sklearn.compose import TransformedTargetRegressor
    from sklearn.neural_network import MLPClassifier, MLPRegressor
    from sklearn.preprocessing import StandardScaler

    x, x_test = _encode(task)
    if task.is_class:
        return MLPClassifier(random_state=task.seed).fit(x, task.y).predict_proba(x_test)
    model = TransformedTargetRegressor(
        MLPRegressor(random_state=task.seed), transformer=StandardScaler()
    )
    return model.fit(x, task.y).predict(x_test)


def _make_categories(task: Task, most: int | None) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return frames whose strings are pandas categories, at most ``most`` of them."""
    train, test = _split_dates(task.train), _split_dates(task.test)
    for name in train.columns:
        if pd.api.types.is_numeric_dtype(train[name]):
            continue
        values = train[name].astype(str)
        known = values.value_counts().index[: most or None]
        kind = pd.CategoricalDtype(sorted(known))
        train[name], test[name] = values.astype(kind), test[name].astype(str).astype(kind)
    return train, test


def run_hgb(task: Task, **options: Any) -> np.ndarray:
    """HistGradientBoosting with its defaults."""
    from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor

    x, x_test = _make_categories(task, 250)
    options = {"categorical_features": "from_dtype", "random_state": task.seed, **options}
    if task.is_class:
        return HistGradientBoostingClassifier(**options).fit(x, task.y).predict_proba(x_test)
    return HistGradientBoostingRegressor(**options).fit(x, task.y).predict(x_test)


def run_hgb_tuned(task: Task) -> np.ndarray:
    """The best of 50 random configurations of HistGradientBoosting, on a fifth of the rows."""
    from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor
    from sklearn.model_selection import train_test_split

    x, _ = _make_categories(task, 250)
    rng = np.random.default_rng(task.seed)
    stratify = task.y if task.is_class else None
    fit, held = train_test_split(
        np.arange(len(x)), test_size=0.2, random_state=0, stratify=stratify
    )
    kind = HistGradientBoostingClassifier if task.is_class else HistGradientBoostingRegressor
    best: tuple[float, Any] = (np.inf, None)
    for _ in range(50):
        options = {
            "learning_rate": float(np.exp(rng.uniform(np.log(0.01), np.log(0.3)))),
            "max_leaf_nodes": int(rng.choice([7, 15, 31, 63, 127])),
            "min_samples_leaf": int(rng.choice([5, 10, 20, 50])),
            "l2_regularization": float(np.exp(rng.uniform(np.log(1e-3), np.log(10)))),
            "max_features": float(rng.choice([0.3, 0.6, 1.0])),
            "max_iter": int(rng.choice([100, 200, 400])),
        }
        model = kind(categorical_features="from_dtype", random_state=0, **options)
        model.fit(x.iloc[fit], task.y[fit])
        if task.is_class:
            p = np.clip(model.predict_proba(x.iloc[held]), 1e-7, 1)
            loss = float(-np.log(p[np.arange(len(p)), task.y[held]]).mean())
        else:
            loss = float(np.mean((model.predict(x.iloc[held]) - task.y[held]) ** 2))
        if loss < best[0]:
            best = (loss, options)
    return run_hgb(task, **best[1])


def run_lightgbm(task: Task) -> np.ndarray:
    """LightGBM with its defaults."""
    from lightgbm import LGBMClassifier, LGBMRegressor

    x, x_test = _make_categories(task, None)
    rename = {name: f"c{i}" for i, name in enumerate(x)}
    x, x_test = x.rename(columns=rename), x_test.rename(columns=rename)
    options = {"random_state": task.seed, "verbose": -1, "n_jobs": 2}
    if task.is_class:
        return LGBMClassifier(**options).fit(x, task.y).predict_proba(x_test)
    return LGBMRegressor(**options).fit(x, task.y).predict(x_test)


def run_catboost(task: Task) -> np.ndarray:
    """CatBoost with its defaults."""
    from catboost import CatBoostClassifier, CatBoostRegressor

    x, x_test = _split_dates(task.train), _split_dates(task.test)
    names = [name for name in x if not pd.api.types.is_numeric_dtype(x[name])]
    for name in names:
        for frame in (x, x_test):
            frame[name] = np.array([str(value) for value in frame[name]], object)
    options = {
        "random_seed": task.seed, "verbose": 0, "thread_count": 2, "allow_writing_files": False,
        "cat_features": names,
    }  # fmt: skip
    if task.is_class:
        return CatBoostClassifier(**options).fit(x, task.y).predict_proba(x_test)
    return CatBoostRegressor(**options).fit(x, task.y).predict(x_test)


def _run_pytabkit(task: Task, name: str) -> np.ndarray:
    import pytabkit

    kind = getattr(pytabkit, f"{name}_{'Classifier' if task.is_class else 'Regressor'}")
    x, x_test = _make_categories(task, None)
    model = kind(random_state=task.seed, n_threads=2, device="cpu")
    model.fit(x, task.y)
    return model.predict_proba(x_test) if task.is_class else model.predict(x_test)


def run_realmlp(task: Task) -> np.ndarray:
    """RealMLP-TD with its defaults."""
    return _run_pytabkit(task, "RealMLP_TD")


def run_tabm(task: Task) -> np.ndarray:
    """TabM-D with its defaults."""
    return _run_pytabkit(task, "TabM_D")


METHODS: dict[str, tuple[str, Callable[[Task], np.ndarray]]] = {
    "ours": ("nas", run_ours),
    "cerebros": ("nas", run_cerebros),
    "linear": ("sklearn", run_linear),
    "mlp": ("sklearn", run_mlp),
    "hgb": ("sklearn", run_hgb),
    "hgb tuned": ("sklearn", run_hgb_tuned),
    "lightgbm": ("lightgbm", run_lightgbm),
    "catboost": ("catboost", run_catboost),
    "realmlp": ("pytabkit", run_realmlp),
    "tabm": ("pytabkit", run_tabm),
}


def main() -> None:
    """Run the benchmark, or print a comparison."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tables", nargs="+", metavar="NAME", help="names; defaults to all")
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=["ours"])
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2], help="%(default)s")
    parser.add_argument(
        "--seconds", type=float, help="limit; defaults to 120, or 240 from 5,000 rows"
    )
    parser.add_argument("--verbose", type=int, default=0, help="1 shows all trials of ours")
    parser.add_argument("--label", default="ours", help="name of our results (%(default)s)")
    parser.add_argument("--json", metavar="FILE", required=True, help="file of JSON lines")
    parser.add_argument("--summary", action="store_true", help="only print the comparison of FILE")
    args = parser.parse_args()
    file = Path(args.json)
    if not args.summary:
        _run(args, file)
    print_summary(file)


def _run(args: Any, file: Path) -> None:
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    warnings.filterwarnings("ignore")
    _FIT["verbose"] = args.verbose
    done = {(r["table"], r["seed"], r["method"]) for r in _read(file)}
    for seed in args.seeds:
        for table in TABLES:
            if args.tables and table.name not in args.tables:
                continue
            task = make_task(table, seed, args.seconds)
            for method in args.methods:
                name = args.label if method == "ours" else method
                if (table.name, seed, name) in done:
                    continue
                start = time.perf_counter()
                try:
                    error = task.score(METHODS[method][1](task))
                except Exception:
                    traceback.print_exc()
                    continue
                row = {
                    "table": table.name, "rows": len(task.y) + len(task.y_test), "seed": seed,
                    "method": name, "error": error,
                    "seconds": round(time.perf_counter() - start, 1),
                }  # fmt: skip
                with file.open("a") as stream:
                    stream.write(json.dumps(row) + "\n")
                print(json.dumps(row), flush=True)


def _read(file: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []


def print_summary(file: Path) -> None:
    """Print errors by table and method (means of seeds), ranks, and wins against each method."""
    frame = pd.DataFrame(_read(file))
    if frame.empty:
        return
    table = frame.pivot_table(index="table", columns="method", values="error", aggfunc="mean")
    table = table.reindex([t.name for t in TABLES if t.name in table.index])
    print(table.to_string(float_format=lambda value: f"{value:.5g}"))
    complete = table.dropna()
    print(f"\nmean ranks over {len(complete)} tables:")
    print(complete.rank(axis=1).mean().sort_values().to_string(float_format="%.2f"))
    for own in [name for name in table if str(name).startswith("ours")]:
        for other in table:
            both = table[[own, other]].dropna()
            if other != own and len(both):
                ratio = both[own] / both[other]
                print(
                    f"{own} against {other}: better on {(ratio < 1).sum()} of {len(both)}, "
                    f"error times {np.exp(np.log(ratio).mean()):.3f}, worst times {ratio.max():.3f}"
                )


if __name__ == "__main__":
    main()
