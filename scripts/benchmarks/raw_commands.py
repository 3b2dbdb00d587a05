#!/usr/bin/env python3
"""Search public tables with one command each, from CSV files as pandas writes them.

``cerebros-spark search`` gets four fifths of the rows and a limit in time, ``predict`` the others
without their label. Prints the score of these predictions, as ``raw_tables.py`` has it, beside that
of scikit-learn's HistGradientBoosting with its defaults and categories, and the seconds of both
commands.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

# The parent folder has the modules that all scripts share.
sys.path.insert(0, str(Path(__file__).parents[1]))

import pandas as pd
from _tables import Table
from raw_tables import TABLES, score

_MOST_CATEGORIES = 255
"""Maximum number of categories of a column in HistGradientBoosting."""


def main() -> None:
    """Run the benchmark and print a line of JSON for each table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tables", nargs="+", metavar="NAME", help="names; defaults to all")
    parser.add_argument("--seconds", type=int, default=60, help="limit of a search (%(default)s)")
    parser.add_argument("--rows", type=int, help="maximum number of rows; defaults to all")
    parser.add_argument("--seed", type=int, default=0, help="%(default)s")
    args = parser.parse_args()
    for table in TABLES:
        if not args.tables or table.name in args.tables:
            print(json.dumps(search(table, args)), flush=True)


def search(table: Table, args: Any) -> dict[str, Any]:
    """Search a table and predict new rows, by commands; return the scores and seconds."""
    train, test = table.split(args.rows, args.seed)
    rows = len(train) + len(test)
    label = table.label
    result: dict[str, Any] = {"table": table.name, "rows": rows, "columns": train.shape[1]}
    result["metric"] = "log loss" if table.is_class else "RMSE"
    with tempfile.TemporaryDirectory() as folder:
        train.to_csv(f"{folder}/train.csv", index=False)
        test.drop(columns=label).to_csv(f"{folder}/new.csv", index=False)
        head = "classification" if table.is_class else "regression"
        options = ["--label", label, "--head", head, "--time-limit", str(args.seconds)]
        options += ["--store", f"{folder}/store", "--seed", str(args.seed)]
        result["search s"] = run(["search", f"{folder}/train.csv", *options])
        options = ["--output", f"{folder}/predicted.csv"]
        run_folder = f"{folder}/store/runs/train"
        result["predict s"] = run(["predict", run_folder, f"{folder}/new.csv", *options])
        predicted = pd.read_csv(f"{folder}/predicted.csv", keep_default_na=False)
    classes = None
    if table.is_class:
        prefix = f"{label}__probability_"
        predicted = predicted[[name for name in predicted if name.startswith(prefix)]]
        classes = [name.removeprefix(prefix) for name in predicted]
    else:
        predicted = predicted[[f"{label}__output"]]
    result["score"] = score(test[label], predicted.to_numpy(float), classes)
    result["boosting"] = score_boosting(table, train, test)
    return result


def run(words: list[str]) -> float:
    """Run a command of ``cerebros-spark``; return its seconds."""
    start = time.perf_counter()
    command = str(Path(sys.executable).with_name("cerebros-spark"))
    subprocess.run([command, *words], check=True, stdout=subprocess.DEVNULL)
    return round(time.perf_counter() - start, 1)


def score_boosting(table: Table, train: pd.DataFrame, test: pd.DataFrame) -> float:
    """Return the score of HistGradientBoosting, with its own categories and missing values."""
    from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor

    def prepare(frame: pd.DataFrame) -> pd.DataFrame:
        columns = {}
        for name in frame.columns.drop(table.label):
            values = frame[name]
            if pd.api.types.is_datetime64_any_dtype(values):
                columns[name] = values.astype("int64") / 1e9
            elif pd.api.types.is_numeric_dtype(values):
                columns[name] = values.astype(float)
            elif train[name].nunique() <= _MOST_CATEGORIES:
                columns[name] = values.astype(pd.CategoricalDtype(known[name]))
        return pd.DataFrame(columns)

    known = {
        name: sorted(train[name].dropna().astype(object).unique(), key=str)
        for name in train.select_dtypes(exclude=["number", "datetime"])
    }
    kind = HistGradientBoostingClassifier if table.is_class else HistGradientBoostingRegressor
    labels = train[table.label].astype(str) if table.is_class else train[table.label]
    model = kind(categorical_features="from_dtype", random_state=0).fit(prepare(train), labels)
    if table.is_class:
        return score(test[table.label], model.predict_proba(prepare(test)), list(model.classes_))
    return score(test[table.label], model.predict(prepare(test))[:, None], None)


if __name__ == "__main__":
    main()
