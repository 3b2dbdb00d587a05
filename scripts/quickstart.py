#!/usr/bin/env python3
"""Search networks for two of scikit-learn's tables: a regression and a classification.

Searches networks for each with two Spark workers, prints the leaderboard and the test score beside
that of a linear model, and saves the model that predicts. Run it directly or with
spark-submit.
"""

from __future__ import annotations

import argparse
import logging
import os
import sys
import time

import _common


def main() -> None:
    """Run both searches."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trials", type=int, default=20, help="configurations at most")
    parser.add_argument("--epochs", type=int, help="of a trial; defaults to a suitable number")
    parser.add_argument("--seconds", type=float, default=45, help="of each search (%(default)s)")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument(
        "--resume", action="store_true", help="resume a run that was killed, or show its result"
    )
    parser.add_argument("--folder", default="runs", help="folder of runs and models")
    args = parser.parse_args()
    _common.prepare_environment(logging.INFO)
    spark = _common.session(f"local[{args.workers}]")
    try:
        regression(spark, args)
        classification(spark, args)
    finally:
        spark.stop()


def regression(spark: object, args: argparse.Namespace) -> None:
    """Search diabetes: 442 patients, 10 measurements, the progression of the disease."""
    import autokeras as ak
    from sklearn.datasets import load_diabetes
    from sklearn.linear_model import RidgeCV

    train, test = split(load_diabetes(as_frame=True).frame, args.seed)
    search, result = run_search(
        spark, args, train, "diabetes", ak.RegressionHead(), "val_loss", "mse"
    )
    x = [name for name in train.columns if name != "target"]
    linear = RidgeCV().fit(train[x], train["target"])
    error = ((linear.predict(test[x]) - test["target"]) ** 2).mean()
    loss = search.evaluate(spark.createDataFrame(test), return_dict=True)["loss"]
    report("diabetes", args, result, f"test mean squared error {loss:.0f} (ridge: {error:.0f})")


def classification(spark: object, args: argparse.Namespace) -> None:
    """Search breast cancer: 569 samples, 30 measurements, malignant or benign."""
    import autokeras as ak
    from sklearn.datasets import load_breast_cancer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    frame = load_breast_cancer(as_frame=True).frame
    frame.columns = [name.replace(" ", "_") for name in frame.columns]
    train, test = split(frame, args.seed)
    search, result = run_search(
        spark, args, train, "breast_cancer", ak.ClassificationHead(), "val_loss", "accuracy"
    )
    x = [name for name in train.columns if name != "target"]
    linear = make_pipeline(StandardScaler(), LogisticRegression()).fit(train[x], train["target"])
    right = linear.score(test[x], test["target"])
    accuracy = search.evaluate(spark.createDataFrame(test), return_dict=True)["accuracy"]
    report(
        "breast_cancer",
        args,
        result,
        f"test accuracy {accuracy:.3f} (logistic regression: {right:.3f})",
    )


def split(frame: object, seed: int) -> tuple[object, object]:
    """Return a training and a test frame, 80 to 20."""
    from sklearn.model_selection import train_test_split

    return train_test_split(frame, test_size=0.2, random_state=seed)


def run_search(
    spark: object,
    args: argparse.Namespace,
    train: object,
    name: str,
    head: object,
    objective: str,
    metric: str,
) -> tuple[object, object]:
    """Search networks for a pandas frame with a column ``target``, on Spark."""
    import autokeras as ak

    from cerebros_spark import LocalStore, SparkBackend
    from nas import HyperHyperModel

    search = HyperHyperModel(
        inputs=ak.Input(), outputs=head, seed=args.seed, overwrite=not args.resume
    )
    search.resource_bind(
        backend=SparkBackend(spark_context=spark.sparkContext, num_workers=args.workers),
        store=LocalStore(prefix_path=os.path.join(args.folder, name)),
        feature_columns=[column for column in train.columns if column != "target"],
        label_columns=["target"],
        evaluation_metric=metric,
    )
    search.tuner_bind(objective=objective, max_trials=args.trials)
    began = time.monotonic()
    result = search.fit(spark.createDataFrame(train), epochs=args.epochs, max_seconds=args.seconds)
    logging.getLogger("quickstart").info("%s took %.0f s", name, time.monotonic() - began)
    return search, result


def report(name: str, args: argparse.Namespace, result: object, score: str) -> None:
    """Print the leaderboard and the score, and save the model that predicts."""
    path = os.path.abspath(os.path.join(args.folder, f"{name}.keras"))
    result.export_model().save(path)
    board = result.leaderboard().drop(columns="traceback").dropna(axis="columns", how="all")
    print(f"\n{name}\n{board.to_string(index=False)}")
    print(f"{name}: {score}")
    print(f"{name}: the model is in {path}\n")


if __name__ == "__main__":
    sys.path.insert(0, os.path.dirname(__file__))
    main()
