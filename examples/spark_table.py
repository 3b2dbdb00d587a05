"""Search networks for a regression on a Spark DataFrame with numbers and strings.

On a cluster, use a store that all machines can reach: scripts/submit examples/spark_table.py.
"""

import autokeras as ak
import numpy as np
import pandas as pd
from pyspark.ml import Pipeline
from pyspark.ml.feature import OneHotEncoder, StringIndexer
from pyspark.sql import DataFrame, SparkSession

from cerebros_spark import LocalStore, SparkBackend, start_spark
from nas import HyperHyperModel


def main() -> None:
    """Search, and add predictions to the table."""
    # On a cluster, spark-submit's own master is used.
    spark = start_spark("local[2]", app_name="houses")
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


if __name__ == "__main__":
    main()
