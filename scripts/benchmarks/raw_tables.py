#!/usr/bin/env python3
"""Compare searches on raw tables with the same searches on tables that were encoded by hand.

Each table is searched twice with the same seed, networks and epochs: once as it is, in one call;
once after a careful encoding with scikit-learn, as arrays. Both are scored on the same fifth of the
rows, which neither has seen: the root mean squared error, or the log loss. The network of the raw
table is exported, and predicts the same rows in a process with Keras and TensorFlow alone, from the
file of Keras and by the signature of a SavedModel.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

# The parent folder has the modules that all scripts share.
sys.path.insert(0, str(Path(__file__).parents[1]))

import _common
import numpy as np
import pandas as pd
from _tables import Table

# Chosen before any measurement, so that every kind of column occurs: missing numbers and strings,
# dates, categories with thousands of values, booleans, ids, constants, skewed amounts.
TABLES = (
    Table(
        "nycflights13",
        "flights",
        "arr_delay",
        False,
        ("dep_delay", "arr_time", "dep_time", "air_time"),
        ("time_hour",),
    ),
    Table("ggplot2", "diamonds", "price", False),
    Table("modeldata", "lending_club", "Class", True),
    Table("modeldata", "Chicago", "ridership", False, (), ("date",)),
    Table("openintro", "loans_full_schema", "interest_rate", False, ("grade", "sub_grade")),
    Table("ggplot2movies", "movies", "rating", False, tuple(f"r{i}" for i in range(1, 11))),
    Table("AER", "Fertility", "work", True),
    Table("modeldata", "attrition", "Attrition", True),
    Table("modeldata", "hotel_rates", "avg_price_per_room", False, (), ("arrival_date",)),
    Table("carData", "TitanicSurvival", "survived", True),
)


def main() -> None:
    """Run the benchmark and print its table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tables", nargs="+", metavar="NAME", help="names; defaults to all")
    parser.add_argument("--trials", type=int, default=6, help="networks (%(default)s)")
    parser.add_argument("--epochs", type=int, default=8, help="%(default)s")
    parser.add_argument("--rows", type=int, help="maximum number of rows; defaults to all")
    parser.add_argument("--seed", type=int, default=0, help="%(default)s")
    parser.add_argument("--json", metavar="FILE", help="also write the figures to FILE")
    args = parser.parse_args()
    _common.prepare_environment()
    rows = []
    for table in TABLES:
        if args.tables and table.name not in args.tables:
            continue
        rows.append(compare(table, args))
        print(json.dumps(rows[-1]), flush=True)
    ratios = np.array([row["raw"] / row["by hand"] for row in rows])
    print(f"\nratio raw / by hand: geometric mean {np.exp(np.log(ratios).mean()):.4f}")
    if args.json:
        Path(args.json).write_text(json.dumps(rows, indent=1) + "\n")


def compare(table: Table, args: Any) -> dict[str, Any]:
    """Search a table both ways; return the scores and seconds."""
    train, test = table.split(args.rows, args.seed)
    rows = len(train) + len(test)
    is_class = table.is_class
    result: dict[str, Any] = {"table": table.name, "rows": rows, "columns": train.shape[1]}
    result["metric"] = "log loss" if is_class else "RMSE"
    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        search = search_raw(table.label, train, is_class, folder, args)
        new_rows = test.drop(columns=table.label)
        predicted = search.predict(new_rows, batch_size=1024)
        result["raw s"] = round(time.perf_counter() - start, 1)
        classes = [str(name) for name in search.result.classes] if is_class else None
        result["raw"] = score(test[table.label], predicted, classes)
        result.update(compare_exported(search, new_rows, predicted))
    start = time.perf_counter()
    predicted = search_encoded(table.label, train, test, is_class, args)
    result["by hand s"] = round(time.perf_counter() - start, 1)
    classes = sorted(train[table.label].astype(str).unique()) if is_class else None
    result["by hand"] = score(test[table.label], predicted, classes)
    return result


def compare_exported(search: Any, rows: pd.DataFrame, predicted: np.ndarray) -> dict[str, float]:
    """Return the largest difference of the exported model's predictions in a process of its own.

    It is relative to the largest prediction, or to 1.
    """
    with tempfile.TemporaryDirectory() as folder:
        model = search.export_model()
        model.save(f"{folder}/model.keras")
        model.export(f"{folder}/served", verbose=False)
        inputs = to_inputs(rows, search.result.table.columns)
        np.savez(f"{folder}/rows.npz", **inputs)  # type: ignore[arg-type]
        script = Path(__file__).with_name("_exported_model.py")
        # -I: without this folder, PYTHONPATH and the user's packages.
        subprocess.run([sys.executable, "-I", str(script), folder], check=True)
        with np.load(f"{folder}/predicted.npz") as file:
            largest = max(1.0, float(np.abs(predicted).max()))
            return {
                f"{form} differs by": float(np.abs(file[form] - predicted).max()) / largest
                for form in ("keras", "served")
            }


def to_inputs(frame: pd.DataFrame, columns: Any) -> dict[str, np.ndarray]:
    """Convert a frame to the inputs of an exported model, as its documentation says."""
    inputs = {}
    for column in columns:
        values = frame[column.name]
        if column.storage == "string":
            inputs[column.name] = values.astype(object).where(values.notna(), "").to_numpy(object)
        elif pd.api.types.is_datetime64_any_dtype(values):
            times = values.dt.tz_localize(None).astype("datetime64[us]")
            inputs[column.name] = times.astype("int64").to_numpy()
        elif values.dtype == object:
            inputs[column.name] = values.astype(float).to_numpy()
        else:
            inputs[column.name] = values.to_numpy()
    return inputs


def score(labels: pd.Series, predicted: np.ndarray, classes: list[str] | None) -> float:
    """Return the log loss of probabilities of ``classes``, or the root mean squared error."""
    if classes is not None:
        wide = predicted
        if predicted.shape[1] == 1:
            wide = np.concatenate([1 - predicted, predicted], axis=1)
        chosen = wide[np.arange(len(wide)), [classes.index(each) for each in labels.astype(str)]]
        return float(-np.log(np.maximum(chosen, np.finfo(np.float32).eps)).mean())
    return float(np.sqrt(np.mean((labels.to_numpy(float) - predicted[:, 0]) ** 2)))


def make_search(is_class: bool, folder: str, args: Any) -> Any:
    """Make the search that both ways share."""
    import autokeras as ak

    from nas import CerebrosSpace, HyperHyperModel

    head = ak.ClassificationHead() if is_class else ak.RegressionHead()
    return HyperHyperModel(
        ak.Input(),
        head,
        max_trials=args.trials,
        directory=folder,
        seed=args.seed,
        space=CerebrosSpace(),
    )


def choose_batch(rows: int) -> int:
    """Return the number of rows per step."""
    return 64 if rows < 8192 else 256 if rows < 100_000 else 1024


def search_raw(label: str, train: pd.DataFrame, is_class: bool, folder: str, args: Any) -> Any:
    """Search the raw table in one call; return the search."""
    search = make_search(is_class, folder, args)
    search.fit(
        train,
        label,
        epochs=args.epochs,
        batch_size=choose_batch(len(train)),
        ensemble_size=1,
        verbose=0,
    )
    return search


def search_encoded(
    label: str, train: pd.DataFrame, test: pd.DataFrame, is_class: bool, args: Any
) -> np.ndarray:
    """Encode the table by hand and search the arrays; return the predictions."""
    encode = make_encoder(train.drop(columns=label))
    y = train[label]
    if is_class:
        y = pd.Series(pd.Categorical(y.astype(str)).codes)
    with tempfile.TemporaryDirectory() as folder:
        search = make_search(is_class, folder, args)
        search.fit(
            encode(train.drop(columns=label)),
            y.to_numpy(),
            epochs=args.epochs,
            batch_size=choose_batch(len(train)),
            verbose=0,
        )
        predicted: np.ndarray = search.predict(encode(test.drop(columns=label)), batch_size=1024)
        return predicted


def make_encoder(train: pd.DataFrame) -> Callable[[pd.DataFrame], np.ndarray]:
    """Fit a careful encoding with scikit-learn; return the function that applies it.

    Numbers are imputed by the median, with indicators, and standardized; strings are one-hot, with
    rare and unknown ones together, up to 100 of them; times become numbers of their parts; ids and
    constants are dropped.
    """
    from sklearn.compose import ColumnTransformer
    from sklearn.impute import SimpleImputer
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import OneHotEncoder, StandardScaler

    def split_times(frame: pd.DataFrame) -> pd.DataFrame:
        frame = frame.copy()
        for name in frame.select_dtypes("datetime").columns:
            times = frame.pop(name)
            for part in ("year", "month", "day", "weekday", "hour"):
                frame[f"{name} {part}"] = getattr(times.dt, part).astype(float)
            frame[f"{name} elapsed"] = times.astype("int64") / 1e9
        return frame

    split = split_times(train)
    numbers, strings = [], []
    for name in split.columns:
        distinct = split[name].nunique()
        if pd.api.types.is_numeric_dtype(split[name]):
            is_row = pd.api.types.is_integer_dtype(split[name]) and distinct > 0.95 * len(split)
            if distinct > 1 and not is_row:
                numbers.append(name)
        elif 1 < distinct < 0.8 * len(split):
            strings.append(name)
    transformer = ColumnTransformer(
        [
            (
                "numbers",
                make_pipeline(
                    SimpleImputer(strategy="median", add_indicator=True), StandardScaler()
                ),
                numbers,
            ),
            (
                "strings",
                OneHotEncoder(
                    handle_unknown="infrequent_if_exist",
                    min_frequency=max(2, min(10, len(split) // 10_000)),
                    max_categories=100,
                    sparse_output=False,
                    dtype=np.float32,
                ),
                strings,
            ),
        ]
    )
    transformer.fit(_clean(split, strings))
    return lambda frame: np.asarray(
        transformer.transform(_clean(split_times(frame), strings)), np.float32
    )


def _clean(frame: pd.DataFrame, strings: list[str]) -> pd.DataFrame:
    return frame.assign(**{name: frame[name].astype(object).fillna("") for name in strings})


if __name__ == "__main__":
    main()
