#!/usr/bin/env python3
"""Search Cerebros networks for house prices, on a generated table like the Ames table.

2,930 houses with 38 numbers each: areas, years, qualities, counts, indicators of district and
kind, and columns without meaning. Prices are lognormal around a non-linear function of them, so
the error that no model can beat is known. Ridge regressions on the prices and on their logarithms
are scored beside the search.
"""

from __future__ import annotations

import argparse
import os
import sys
from typing import Any

import _experiment
import numpy as np
import pandas as pd

from cerebros_spark.core.seeding import derive_seed

NOISE = 0.12
"""Standard deviation of the logarithm of a price around its expectation."""


def run(spark: Any, args: argparse.Namespace) -> _experiment.Outcome:
    """Run the search and the ridge regressions; score them on the held-out fifth."""
    df = spark.createDataFrame(houses(args.rows, args.seed))
    train, test = _experiment.split(df, args.seed)
    search = run_search(spark, args, train.drop("expected"))
    frame = search.predict(test).toPandas()
    rows = [
        ("rows", args.rows, ""),
        ("true model: test error", error(frame["price"], frame["expected"]), "dollars (the floor)"),
        ("search: test error", error(frame["price"], frame["price__output"]), "dollars"),
        *linear(train.toPandas(), frame),
        ("search: test error of the logarithm", log_error(frame, "price__output"), ""),
        ("true model: test error of the logarithm", log_error(frame, "expected"), "(the floor)"),
    ]
    rows += _experiment.search_rows("search", search)
    return _experiment.Outcome(rows, {"search": search})


def houses(rows: int, seed: int) -> pd.DataFrame:
    """Return houses with 38 features, a ``price`` and its expectation, ``expected``, in dollars."""
    rng = np.random.default_rng(derive_seed(seed, "houses"))
    districts = rng.choice(8, rows, p=[0.25, 0.2, 0.15, 0.12, 0.1, 0.08, 0.06, 0.04])
    quality = np.clip(np.round(rng.normal(6, 1.4, rows)), 1, 10)
    built = np.round(2010 - rng.gamma(1.6, 24, rows)).clip(1872)
    first = rng.lognormal(7.0, 0.3, rows)
    second = np.where(rng.random(rows) < 0.43, first * rng.uniform(0.5, 1, rows), 0)
    cellar = np.where(rng.random(rows) < 0.03, 0, first * rng.normal(0.9, 0.1, rows)).clip(0)
    columns: dict[str, Any] = {
        "lot_frontage": rng.normal(69, 20, rows).clip(20),
        "lot_area": rng.lognormal(9.1, 0.5, rows),
        "quality": quality,
        "condition": np.clip(np.round(rng.normal(5.6, 1.1, rows)), 1, 9),
        "year_built": built,
        "year_renewed": np.where(rng.random(rows) < 0.5, built, np.maximum(
            built, rng.integers(1950, 2011, rows))),
        "first_floor": first,
        "second_floor": second,
        "living_area": first + second,
        "cellar_area": cellar,
        "cellar_finished": cellar * rng.beta(0.8, 1.0, rows),
        "full_baths": rng.integers(1, 4, rows),
        "half_baths": rng.integers(0, 2, rows),
        "bedrooms": rng.integers(1, 6, rows),
        "kitchens": 1 + (rng.random(rows) < 0.04),
        "rooms": np.round((first + second) / 230 + rng.normal(0, 0.8, rows)).clip(2),
        "fireplaces": rng.choice(4, rows, p=[0.48, 0.43, 0.08, 0.01]),
        "garage_cars": rng.choice(4, rows, p=[0.05, 0.27, 0.55, 0.13]),
        "deck": np.where(rng.random(rows) < 0.5, rng.gamma(2, 90, rows), 0),
        "porch": np.where(rng.random(rows) < 0.55, rng.gamma(2, 45, rows), 0),
        "pool": rng.random(rows) < 0.005,
        "month_sold": rng.integers(1, 13, rows),
        "year_sold": rng.integers(2006, 2011, rows),
        "central_air": rng.random(rows) < 0.93,
        "paved": rng.random(rows) < 0.9,
        **{f"district_{number}": districts == number for number in range(8)},
        **{f"other_{number}": rng.normal(size=rows) for number in range(5)},
    }  # fmt: skip
    frame = pd.DataFrame(columns).astype("float64")
    worth = _worth(frame, districts)
    frame["price"] = np.exp(worth + rng.normal(0, NOISE, rows))
    # The mean of a lognormal distribution.
    frame["expected"] = np.exp(worth + NOISE**2 / 2)
    return frame


def _worth(house: pd.DataFrame, districts: np.ndarray) -> Any:
    """Return the expected logarithm of a price; features weigh differently by district."""
    age = house["year_sold"] - house["year_built"]
    renewed = house["year_sold"] - house["year_renewed"]
    district = np.array([0.0, 0.1, -0.1, 0.25, -0.25, 0.05, 0.4, -0.35])[districts]
    garage = np.array([-0.12, -0.05, 0.02, 0.12])[house["garage_cars"].astype(int)]
    return (
        11.75
        + 0.55 * np.log(house["living_area"] / 1500)
        + 0.12 * (house["quality"] - 6) * (1 + 0.8 * district)
        + 0.02 * np.maximum(house["quality"] - 7, 0) ** 2
        # Value falls with age, and rises again for very old houses.
        - 0.004 * np.minimum(age, 70) + 0.002 * np.maximum(age - 70, 0)
        - 0.05 * np.tanh(renewed / 15)
        + 0.04 * (house["condition"] - 5.6) * (age > 30)
        + 0.1 * np.log(house["lot_area"] / 9000)
        + 0.00012 * house["cellar_finished"] * (house["quality"] > 5)
        + 0.05 * np.minimum(house["fireplaces"], 2)
        + 0.08 * house["central_air"]
        + 0.03 * house["full_baths"]
        - 0.1 * (house["kitchens"] - 1)
        + district
        + garage
    )  # fmt: skip


def run_search(spark: Any, args: argparse.Namespace, train: Any) -> Any:
    """Search among Cerebros networks."""
    import autokeras as ak

    from nas import CerebrosSpace, HyperHyperModel

    search = HyperHyperModel(
        inputs=ak.Input(),
        outputs=ak.RegressionHead(),
        seed=args.seed,
        overwrite=not args.resume,
        space=CerebrosSpace.published(
            maximum_levels=args.levels, learning_rate=(0.0664, 0.02, 0.006, 0.002)
        ),
    )
    _experiment.bind(
        search,
        spark,
        _experiment.folder_of(args, "houses") / "store",
        args,
        feature_columns=[name for name in train.columns if name != "price"],
        label_columns=["price"],
        validation=0.2,
        evaluation_metric="root_mean_squared_error",
    )
    search.tuner_bind(args.tuner, objective="val_root_mean_squared_error", max_trials=args.trials)
    search.fit(train, epochs=args.epochs, batch_size=32)
    return search


def error(price: Any, predicted: Any) -> float:
    """Return the root mean squared error, in dollars."""
    return float(np.sqrt(((price - predicted) ** 2).mean()))


def log_error(frame: pd.DataFrame, column: str) -> float:
    """Return the root mean squared error of the logarithm of prices, clipped at 1,000 dollars."""
    return error(np.log(frame["price"]), np.log(frame[column].clip(lower=1000)))


def linear(train: pd.DataFrame, test: pd.DataFrame) -> list[tuple[str, float, str]]:
    """Return the errors of ridge regression on the same columns."""
    from sklearn.compose import TransformedTargetRegressor
    from sklearn.linear_model import RidgeCV
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    names = [name for name in train.columns if name not in ("price", "expected")]
    ridge = make_pipeline(StandardScaler(), RidgeCV(alphas=np.logspace(-2, 4, 25)))
    of_logarithms = TransformedTargetRegressor(ridge, func=np.log, inverse_func=np.exp)
    rows = []
    for label, model in (("prices", ridge), ("their logarithms", of_logarithms)):
        predicted = model.fit(train[names], train["price"]).predict(test[names])
        found = error(test["price"], predicted)
        rows.append((f"ridge regression of {label}: test error", found, "dollars"))
    return rows


def parser() -> argparse.ArgumentParser:
    """Return the script's options."""
    options = _experiment.options(__doc__, trials=8, epochs=30, rows=2930)
    options.add_argument(
        "--levels", type=int, default=4, help="maximum number of levels (%(default)s)"
    )
    options.add_argument("--tuner", default="random", help="%(default)s")
    return options


if __name__ == "__main__":
    sys.path.insert(0, os.path.dirname(__file__))
    _experiment.main("houses", parser(), run)
