#!/usr/bin/env python3
"""Clicks in the shape of Criteo's: hashed categories, embeddings, AUC against the ceiling.

The data is what scripts/make_criteo.py makes: 13 counts and 26 categorical columns, and the true
model's probabilities. Spark takes logarithms of the counts, marks what is missing, and hashes each
categorical column into buckets; networks of one's own (``hypermodel=``) embed these. AUC on the
held-out fifth stands beside that of the true model and of logistic regression (Spark ML, every
word hashed by itself).
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
    """Data, search and logistic regression."""
    folder = _experiment.folder_of(args, "criteo")
    raw = spark.read.parquet(str(data(folder, args)))
    train, test = _experiment.split(raw, args.seed)
    search = searched(spark, args, folder / "store", prepared(train, args.buckets))
    scored = search.predict(prepared(test, args.buckets))
    rows = [
        ("rows", raw.count(), ""),
        ("true model: test AUC", auc(test, "probability"), "(the ceiling)"),
        ("search: test AUC", auc(scored, "label__output"), ""),
    ]
    if not args.no_linear:
        rows.append(("logistic regression: test AUC", linear(train, test, args.penalty), ""))
    rows += _experiment.of_search("search", search)
    return _experiment.Outcome(rows, {"search": search})


def data(folder: Path, args: argparse.Namespace) -> Path:
    """The folder with the rows: the user's, or one that is generated and kept."""
    if args.data is not None:
        return Path(args.data).absolute()
    made = folder / f"rows-{args.rows}-{args.seed}"
    if not made.exists():
        make(made, args.rows, args.seed)
    return made


def prepared(raw: Any, buckets: int) -> Any:
    """The label, ``numbers`` and ``words`` as arrays, and the true probability.

    Args:
        raw: The rows as ``make_criteo`` writes them.
        buckets: Buckets of each categorical column. Those of column j are numbered from
            ``j * buckets``; a missing word has a bucket, too.
    """
    from pyspark.sql import functions as F  # noqa: N812

    words = [
        F.pmod(F.xxhash64(F.lit(name), F.col(name)), F.lit(buckets)).cast("int")
        + F.lit(number * buckets)
        for number, name in enumerate(CATEGORIES)
    ]
    return raw.select(
        "label",
        F.array(*(told for name in NUMBERS for told in depth(name))).alias("numbers"),
        F.array(*words).alias("words"),
        "probability",
    )


def depth(name: str) -> tuple[Any, Any]:
    """A count's logarithm, 0 where it is missing, and whether it is missing."""
    from pyspark.sql import functions as F  # noqa: N812

    value = F.log1p(F.coalesce(F.col(name), F.lit(0)).cast("float")).cast("float")
    return value, F.col(name).isNull().cast("float")


def network(hp: Any, buckets: int, embedding: int | None = None) -> Any:
    """Embedded words beside the numbers, below a multi-layer perceptron.

    Args:
        hp: A ``keras_tuner.HyperParameters``.
        buckets: As ``prepared`` was given.
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


def searched(spark: Any, args: argparse.Namespace, store: Path, train: Any) -> Any:
    """A finished search for the network with the best validation AUC."""
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
    """Area under the ROC curve of a column with scores."""
    from pyspark.ml.evaluation import BinaryClassificationEvaluator
    from pyspark.sql import functions as F  # noqa: N812

    scores = df.select("label", F.col(column).cast("double").alias("score"))
    # Without bins: the curve goes through every score.
    evaluator = BinaryClassificationEvaluator(rawPredictionCol="score", numBins=0)
    return float(evaluator.evaluate(scores))


def linear(train: Any, test: Any, penalty: float) -> float:
    """Test AUC of Spark's logistic regression on logarithms and hashed words."""
    from pyspark.ml.classification import LogisticRegression
    from pyspark.ml.feature import FeatureHasher
    from pyspark.ml.functions import vector_to_array

    def hashed(df: Any) -> Any:
        told = [depth(name) for name in NUMBERS]
        numbers = [
            value.alias(f"{kind}_{name}")
            for name, pair in zip(NUMBERS, told, strict=True)
            for kind, value in zip(("log", "missing"), pair, strict=True)
        ]
        frame = df.select("label", *numbers, *CATEGORIES)
        hasher = FeatureHasher(inputCols=frame.columns[1:], outputCol="features", numFeatures=2**16)
        return hasher.transform(frame).select("label", "features")

    model = LogisticRegression(regParam=penalty, maxIter=30, standardization=False).fit(
        hashed(train).cache()
    )
    scored = model.transform(hashed(test))
    probability = vector_to_array("probability")[1].alias("score")
    return auc(scored.select("label", probability), "score")


def parser() -> argparse.ArgumentParser:
    """The script's options."""
    made = _experiment.options(__doc__, trials=6, epochs=3, rows=100_000)
    made.add_argument("--data", help="a folder that make_criteo has made; else one is generated")
    made.add_argument("--buckets", type=int, default=1000, help="of each column (%(default)s)")
    made.add_argument("--batch-size", type=int, default=256, help="%(default)s")
    made.add_argument("--tuner", default="random", help="%(default)s")
    made.add_argument(
        "--penalty", type=float, default=1e-3, help="of logistic regression (%(default)s)"
    )
    made.add_argument("--no-linear", action="store_true", help="leave logistic regression out")
    return made


if __name__ == "__main__":
    sys.path.insert(0, os.path.dirname(__file__))
    _experiment.main("criteo", parser(), run)
