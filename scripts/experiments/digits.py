#!/usr/bin/env python3
"""Search networks for handwritten digits, read from libsvm, as an AutoKeras graph.

As in the Cerebro system's MNIST example, with scikit-learn's 1,797 digits of 8 x 8 pixels. They
are written as libsvm, read by Spark's reader (sparse vectors), and searched as convolution and
residual blocks by two tuners, random and greedy. Logistic regression is scored beside them.
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path
from typing import Any

import _experiment


def run(spark: Any, args: argparse.Namespace) -> _experiment.Outcome:
    """Run both searches and score each on the held-out fifth."""
    folder = _experiment.folder_of(args, "digits")
    train, test = _experiment.split(read(spark, write(folder / "digits.libsvm")), args.seed)
    outcome = _experiment.Outcome()
    for tuner in args.tuners:
        search = run_search(spark, args, folder / "store", train, tuner)
        metrics = search.evaluate(test, return_dict=True)
        outcome.searches[tuner] = search
        outcome.rows.append((f"{tuner}: test accuracy", metrics["accuracy"], ""))
        outcome.rows.append((f"{tuner}: test loss", metrics["loss"], ""))
        outcome.rows += _experiment.search_rows(tuner, search)
    outcome.rows.append(("logistic regression: test accuracy", linear(train, test), ""))
    return outcome


def write(path: Path) -> Path:
    """Write the digits as libsvm."""
    from sklearn.datasets import dump_svmlight_file, load_digits

    digits = load_digits()
    partial = path.with_suffix(".partial")
    dump_svmlight_file(digits.data, digits.target, str(partial), zero_based=False)
    partial.replace(path)
    return path


def read(spark: Any, path: Path) -> Any:
    """Return the file as a DataFrame with ``label`` and ``features``, a sparse vector of 64."""
    return spark.read.format("libsvm").option("numFeatures", 64).load(str(path))


def graph() -> tuple[Any, Any]:
    """Return input and head: convolutions and a small residual network, side by side."""
    import autokeras as ak

    from nas import SmallImageBlock

    image = ak.ImageInput(name="image")
    normal = ak.Normalization(name="normal")(image)
    merged = ak.Merge(name="merge")(
        [
            ak.ConvBlock(name="convolution")(normal),
            SmallImageBlock("residual", normalize=False, augment=False, name="residual")(normal),
        ]
    )
    return image, ak.ClassificationHead(name="digit")(merged)


def run_search(spark: Any, args: argparse.Namespace, store: Path, train: Any, tuner: str) -> Any:
    """Run a search."""
    import keras

    from nas import HyperHyperModel

    keras.backend.clear_session()
    inputs, outputs = graph()
    search = HyperHyperModel(
        inputs=inputs,
        outputs=outputs,
        project_name=tuner,
        seed=args.seed,
        overwrite=not args.resume,
    )
    _experiment.bind(
        search,
        spark,
        store,
        args,
        feature_columns=["features"],
        label_columns=["label"],
        evaluation_metric="accuracy",
    )
    search.tuner_bind(tuner, objective="val_accuracy", max_trials=args.trials)
    search.fit(train, epochs=args.epochs, batch_size=32, input_shape=(8, 8, 1))
    return search


def linear(train: Any, test: Any) -> float:
    """Return the test accuracy of logistic regression."""
    import numpy as np
    from sklearn.linear_model import LogisticRegression

    def arrays(df: Any) -> tuple[Any, Any]:
        rows = df.collect()
        return np.stack([row["features"].toArray() for row in rows]), [row["label"] for row in rows]

    model = LogisticRegression(max_iter=5000).fit(*arrays(train))
    return float(model.score(*arrays(test)))


def parser() -> argparse.ArgumentParser:
    """Return the script's options."""
    options = _experiment.options(__doc__, trials=6, epochs=5)
    options.add_argument("--tuners", nargs="+", default=["random", "greedy"], help="%(default)s")
    return options


if __name__ == "__main__":
    sys.path.insert(0, os.path.dirname(__file__))
    _experiment.main("digits", parser(), run)
