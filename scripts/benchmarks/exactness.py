#!/usr/bin/env python3
"""Check that results are exact: repeated runs bit for bit, and metrics over all partitions.

Runs one search with ``reproducible=True`` in two processes with Spark workers, and compares
leaderboards and weights. Then, for each trial, compares the validation metrics merged over
partitions with one ``model.evaluate`` over all validation rows.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

# The parent folder has the modules that all scripts share.
sys.path.insert(0, str(Path(__file__).parents[1]))

import _common


def main() -> None:
    """Run the comparison and print its table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trials", type=int, default=4)
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--master", default="local[2]")
    parser.add_argument("--json", metavar="FILE", help="also write the figures to FILE")
    parser.add_argument("--once", metavar="FOLDER", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.once:
        print(json.dumps(run_once(args)))
        return
    runs = []
    for _ in range(2):
        with tempfile.TemporaryDirectory() as folder:
            command = [sys.executable, __file__, "--once", folder, "--trials", str(args.trials)]
            command += ["--epochs", str(args.epochs), "--master", args.master]
            result = subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout
            runs.append(json.loads(result.decode().splitlines()[-1]))
    first, second = runs
    rows: list[tuple[str, Any, str]] = [
        ("trials compared", len(first["trials"]), ""),
        ("leaderboard rows that differ", count_differences(first["trials"], second["trials"]), ""),
        ("trials whose weights differ", count_differences(first["weights"], second["weights"]), ""),
        ("epochs whose metrics differ", count_differences(first["history"], second["history"]), ""),
    ]
    for name, value in sorted(first["differences"].items()):
        rows.append((f"{name}: largest relative difference to one evaluate", value * 1e9, "1e-9"))
    _common.show("exactness", rows, args.json)


def count_differences(first: list[Any], second: list[Any]) -> int:
    """Return how many entries differ."""
    return sum(a != b for a, b in zip(first, second, strict=True))


def run_once(args: argparse.Namespace) -> dict[str, Any]:
    """Run one search on Spark; return what is compared."""
    _common.prepare_environment()
    import autokeras as ak
    import keras
    from sklearn.datasets import load_breast_cancer

    from cerebros_spark import LocalStore, SparkBackend
    from nas import CerebrosSpace, HyperHyperModel

    spark = _common.session(args.master)
    frame = load_breast_cancer(as_frame=True).frame
    search = HyperHyperModel(
        inputs=ak.Input(),
        outputs=ak.ClassificationHead(
            metrics=["accuracy", keras.metrics.AUC(), keras.metrics.RootMeanSquaredError()]
        ),
        seed=11,
        space=CerebrosSpace(
            maximum_levels=3,
            regularization=("batch_normalization", "dropout"),
            learning_rate=(0.01, 0.003),
        ),
    )
    store = LocalStore(args.once)
    search.resource_bind(
        backend=SparkBackend(spark_context=spark.sparkContext, num_workers=2),
        store=store,
        feature_columns=[name for name in frame.columns if name != "target"],
        label_columns=["target"],
    )
    search.tuner_bind("random", objective="val_loss", max_trials=args.trials)
    result = search.fit(
        spark.createDataFrame(frame), epochs=args.epochs, verbose=0, reproducible=True
    )
    x, y = validation_rows(store)
    board = result.leaderboard().drop(columns="seconds")
    weights, differences = [], {}
    for trial in result.trials:
        model = result.get_model(trial.trial_id)
        digest = hashlib.sha256()
        for weight in model.get_weights():
            digest.update(weight.tobytes())
        weights.append(digest.hexdigest())
        whole = model.evaluate(x, y, batch_size=len(x), verbose=0, return_dict=True)
        for name, value in whole.items():
            merged = trial.history[f"val_{name}"][trial.best_epoch]
            off = abs(merged - value) / abs(value)
            differences[name] = max(differences.get(name, 0.0), off)
    spark.stop()
    return {
        "trials": board.to_dict("records"),
        "weights": weights,
        "history": [trial.history for trial in result.trials],
        "differences": differences,
    }


def validation_rows(store: Any) -> tuple[Any, Any]:
    """Return all prepared validation rows: features and labels."""
    import pandas as pd

    from cerebros_spark.data.manifest import Manifest

    (key,) = [key for key in store.list("data") if key.endswith("manifest.json")]
    manifest = Manifest.from_json(store.read(key).decode())
    parts = [
        pd.read_parquet(store.address(shard.key), partitioning=None)
        for shard in manifest.validation
    ]
    frame = pd.concat(parts)
    features = [column.stored for column in manifest.columns if column.role == "feature"]
    labels = [column.stored for column in manifest.columns if column.role == "label"]
    return frame[features].to_numpy("float32"), frame[labels].to_numpy("int64")


if __name__ == "__main__":
    sys.path.insert(0, os.path.dirname(__file__))
    main()
