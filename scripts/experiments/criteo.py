#!/usr/bin/env python3
"""Search networks for clicks in the shape of Criteo's: hashed categories and embeddings.

The data is that of scripts/make_criteo.py: 13 counts, 26 categorical columns, and the true
model's probabilities. Spark takes logarithms of the counts, marks missing values, and hashes each
categorical column into buckets; custom networks (``hypermodel=``) embed these. The AUC on the
held-out fifth is printed beside that of the true model and of logistic regression (Spark ML,
every word hashed by itself).
"""

from __future__ import annotations

import argparse
import functools
import os
import sys
from pathlib import Path
from typing import Any

import _experiment
from make_criteo import CATEGORIES, NUMBERS, make


def run(spark: Any, args: argparse.Namespace) -> _experiment.Outcome:
    """Run data, search and logistic regression."""
    folder = _experiment.folder_of(args, "criteo")
    raw = spark.read.parquet(str(data(folder, args)))
    train, test = _experiment.split(raw, args.seed)
    search = run_search(spark, args, folder / "store", prepare_columns(train, args.buckets))
    scores = search.predict(prepare_columns(test, args.buckets))
    rows = [
        ("rows", raw.count(), ""),
        ("true model: test AUC", auc(test, "probability"), "(the ceiling)"),
        ("search: test AUC", auc(scores, "label__output"), ""),
    ]
    if not args.no_linear:
        rows.append(("logistic regression: test AUC", linear(train, test, args.penalty), ""))
    rows += _experiment.search_rows("search", search)
    return _experiment.Outcome(rows, {"search": search})


def data(folder: Path, args: argparse.Namespace) -> Path:
    """Return the folder with the rows: the user's, or a generated one that is kept."""
    if args.data is not None:
        return Path(args.data).absolute()
    rows = folder / f"rows-{args.rows}-{args.seed}"
    if not rows.exists():
        make(rows, args.rows, args.seed)
    return rows


def prepare_columns(raw: Any, buckets: int) -> Any:
    """Return the label, ``numbers`` and ``words`` as arrays, and the true probability.

    Args:
        raw: The rows as ``make_criteo`` writes them.
        buckets: Buckets of each categorical column. Those of column j are numbered from
            ``j * buckets``; a missing word has its own bucket.
    """
    from pyspark.sql import functions as F  # noqa: N812

    words = [
        F.pmod(F.xxhash64(F.lit(name), F.col(name)), F.lit(buckets)).cast("int")
        + F.lit(number * buckets)
        for number, name in enumerate(CATEGORIES)
    ]
    return raw.select(
        "label",
        F.array(*(column for name in NUMBERS for column in depth(name))).alias("numbers"),
        F.array(*words).alias("words"),
        "probability",
    )


def depth(name: str) -> tuple[Any, Any]:
    """Return a count's logarithm, 0 if it is missing, and whether it is missing."""
    from pyspark.sql import functions as F  # noqa: N812

    value = F.log1p(F.coalesce(F.col(name), F.lit(0)).cast("float")).cast("float")
    return value, F.col(name).isNull().cast("float")


def network(hp: Any, buckets: int, embedding: int | None = None) -> Any:
    """Return a compiled perceptron of embedded words and numbers.

    Args:
        hp: A ``keras_tuner.HyperParameters``.
        buckets: Buckets of each categorical column, as in :func:`prepare_columns`.
        embedding: Width of a word's embedding; searched if it is None.
    """
    import keras

    layers = keras.layers
    numbers = keras.Input((2 * len(NUMBERS),), name="numbers")
    words = keras.Input((len(CATEGORIES),), dtype="int32", name="words")
    width = embedding or hp.Choice("embedding", [4, 8, 16])
    vectors = layers.Embedding(len(CATEGORIES) * buckets, width)(words)
    normal = layers.BatchNormalization(momentum=0.9)(numbers)
    x = layers.Concatenate()([layers.Flatten()(vectors), normal])
    units = hp.Choice("units", [32, 64, 128])
    for _ in range(hp.Int("layers", 1, 3)):
        x = layers.Dense(units, "relu")(x)
        x = layers.Dropout(hp.Choice("dropout", [0.0, 0.2, 0.4]))(x)
    model = keras.Model([numbers, words], layers.Dense(1, "sigmoid", name="label")(x))
    rate = hp.Float("learning_rate", 3e-4, 1e-2, sampling="log")
    model.compile(
        keras.optimizers.Adam(rate), "binary_crossentropy", metrics=[keras.metrics.AUC(name="auc")]
    )
    return model


def run_search(spark: Any, args: argparse.Namespace, store: Path, train: Any) -> Any:
    """Search for the network with the best validation AUC."""
    import keras_tuner

    from nas import HyperHyperModel

    search = HyperHyperModel(
        hypermodel=functools.partial(network, buckets=args.buckets),
        seed=args.seed,
        overwrite=not args.resume,
    )
    _experiment.bind(
        search,
        spark,
        store,
        args,
        feature_columns=["numbers", "words"],
        label_columns=["label"],
        validation=0.1,
    )
    search.tuner_bind(
        args.tuner, objective=keras_tuner.Objective("val_auc", "max"), max_trials=args.trials
    )
    search.fit(train, epochs=args.epochs, batch_size=args.batch_size)
    return search


def auc(df: Any, column: str) -> float:
    """Return the area under the ROC curve of a column of scores."""
    from pyspark.ml.evaluation import BinaryClassificationEvaluator
    from pyspark.sql import functions as F  # noqa: N812

    scores = df.select("label", F.col(column).cast("double").alias("score"))
    # Zero bins: the curve has a point for every score.
    evaluator = BinaryClassificationEvaluator(rawPredictionCol="score", numBins=0)
    return float(evaluator.evaluate(scores))


def linear(train: Any, test: Any, penalty: float) -> float:
    """Return the test AUC of Spark's logistic regression on logarithms and hashed words."""
    from pyspark.ml.classification import LogisticRegression
    from pyspark.ml.feature import FeatureHasher
    from pyspark.ml.functions import vector_to_array

    def hash_words(df: Any) -> Any:
        depths = [depth(name) for name in NUMBERS]
        numbers = [
            value.alias(f"{kind}_{name}")
            for name, pair in zip(NUMBERS, depths, strict=True)
            for kind, value in zip(("log", "missing"), pair, strict=True)
        ]
        frame = df.select("label", *numbers, *CATEGORIES)
        hasher = FeatureHasher(inputCols=frame.columns[1:], outputCol="features", numFeatures=2**16)
        return hasher.transform(frame).select("label", "features")

    model = LogisticRegression(regParam=penalty, maxIter=30, standardization=False).fit(
        hash_words(train).cache()
    )
    scores = model.transform(hash_words(test))
    probability = vector_to_array("probability")[1].alias("score")
    return auc(scores.select("label", probability), "score")


def parser() -> argparse.ArgumentParser:
    """Return the script's options."""
    options = _experiment.options(__doc__, trials=6, epochs=3, rows=100_000)
    options.add_argument("--data", help="a folder made by make_criteo; default: generate one")
    options.add_argument(
        "--buckets", type=int, default=1000, help="hash buckets of each column (%(default)s)"
    )
    options.add_argument("--batch-size", type=int, default=256, help="%(default)s")
    options.add_argument("--tuner", default="random", help="%(default)s")
    options.add_argument(
        "--penalty", type=float, default=1e-3, help="penalty of logistic regression (%(default)s)"
    )
    options.add_argument("--no-linear", action="store_true", help="skip logistic regression")
    return options


if __name__ == "__main__":
    sys.path.insert(0, os.path.dirname(__file__))
    _experiment.main("criteo", parser(), run)
