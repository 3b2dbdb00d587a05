from __future__ import annotations

import autokeras as ak
import numpy as np
import pytest
from pyspark.ml import Pipeline, PipelineModel
from pyspark.ml.evaluation import (
    BinaryClassificationEvaluator,
    MulticlassClassificationEvaluator,
    RegressionEvaluator,
)
from pyspark.ml.feature import StringIndexer, VectorAssembler
from pyspark.ml.linalg import VectorUDT
from pyspark.ml.tuning import CrossValidator, ParamGridBuilder
from pyspark.sql import types as T  # noqa: N812

from cerebros_spark import LocalStore
from cerebros_spark.core.errors import ArgumentError
from nas import CerebrosEstimator, CerebrosModel, HyperHyperModel
from tests.nas.small_searches import FEATURES, small_space, table

ROWS = 90


def small(estimator: CerebrosEstimator) -> HyperHyperModel:
    """Return a search of one tiny network for the estimator's problem."""
    regression = estimator.getProblemType() == "regression"
    return HyperHyperModel(
        inputs=ak.Input(),
        outputs=ak.RegressionHead() if regression else ak.ClassificationHead(),
        project_name=f"run-{estimator.getBatchSize()}",
        max_trials=1,
        seed=estimator.getSeed(),
        overwrite=True,
        space=small_space(learning_rate=(0.05,)),
    )


@pytest.fixture(scope="module")
def df(spark):
    frame = table(ROWS).assign(late=lambda t: t["late"])
    frame["name"] = np.array(["low", "middle", "high"])[frame["three"]]
    return spark.createDataFrame(frame).coalesce(1).cache()


@pytest.fixture(scope="module")
def fitted(df, tmp_path_factory):
    """Fit a pipeline: strings indexed, columns assembled, three classes."""
    estimator = CerebrosEstimator(
        search=small,  # the tests of models have a search by default
        problemType="classification",
        labelCol="label",
        validationIndicatorCol="late",
        storePath=str(tmp_path_factory.mktemp("store")),
        epochs=1,
        numWorkers=1,  # each worker traces the network
    )
    stages = [
        StringIndexer(inputCol="name", outputCol="label"),
        VectorAssembler(inputCols=FEATURES, outputCol="features"),
        estimator,
    ]
    return Pipeline(stages=stages).fit(df)


@pytest.fixture(scope="module")
def scored(fitted, df):
    return fitted.transform(df).cache()


def test_a_pipeline_adds_prediction_and_probability(scored, df):
    added = ["label", "features", "prediction", "probability"]
    assert scored.columns == [*df.columns, *added]
    assert scored.schema["prediction"].dataType == T.DoubleType()
    assert scored.schema["probability"].dataType == VectorUDT()
    rows = scored.collect()
    probabilities = np.stack([row["probability"].toArray() for row in rows])
    assert probabilities.shape == (ROWS, 3)
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, rtol=1e-5)
    assert [row["prediction"] for row in rows] == probabilities.argmax(axis=1).tolist()


def test_probabilities_are_the_networks(fitted, scored):
    rows = scored.select("features", "probability").collect()
    x = np.stack([row["features"].toArray() for row in rows])
    # predict() would cast float64 to float32.
    expected = np.asarray(fitted.stages[-1].keras()({"features": x}))
    np.testing.assert_allclose([r["probability"].toArray() for r in rows], expected, atol=3e-6)


def test_evaluators_accept_the_columns(scored):
    evaluator = MulticlassClassificationEvaluator(metricName="logLoss")
    assert evaluator.evaluate(scored) > 0
    assert 0 <= evaluator.setMetricName("accuracy").evaluate(scored) <= 1


def test_the_model_has_the_result_of_its_search(fitted):
    model = fitted.stages[-1]
    assert model.result.leaderboard()["status"].tolist() == ["completed"]
    assert model.getFeaturesCols() == ["features"]


def test_a_saved_pipeline_predicts_the_same(fitted, scored, df, tmp_path):
    path = str(tmp_path / "pipeline")
    fitted.write().save(path)
    loaded = PipelineModel.load(path)
    last = loaded.stages[-1]
    assert isinstance(last, CerebrosModel)
    assert last.uid == fitted.stages[-1].uid
    assert last.result is None
    columns = ["prediction", "probability"]
    assert loaded.transform(df).select(columns).collect() == scored.select(columns).collect()
    with pytest.raises(Exception, match="already exists"):
        last.save(f"{path}/stages/2_{last.uid}")
    last.write().overwrite().save(f"{path}/stages/2_{last.uid}")


def test_parameters_of_a_call_apply_to_it_alone(fitted, scored):
    model = fitted.stages[-1]
    plain = scored.drop("prediction", "probability")
    out = model.transform(plain, {model.predictionCol: "guess", model.probabilityCol: ""})
    assert out.columns == [*plain.columns, "guess"]
    assert model.getPredictionCol() == "prediction"


def test_existing_columns_are_refused(fitted, scored):
    with pytest.raises(ArgumentError, match="a column 'prediction' already"):
        fitted.stages[-1].transform(scored)


@pytest.mark.slow
def test_cross_validation_finds_the_better_parameters(df):
    estimator = CerebrosEstimator(
        search=small, problemType="classification", featuresCols=FEATURES, labelCol="binary",
        validationIndicatorCol="late",  # without folds of the search's own
        numWorkers=1,
    ).setBatchSize(16)  # fmt: skip
    # One epoch of a network that learns quickly against twelve.
    grid = ParamGridBuilder().addGrid(estimator.epochs, [1, 12]).build()
    evaluator = BinaryClassificationEvaluator(rawPredictionCol="probability", labelCol="binary")
    fitted = CrossValidator(
        estimator=estimator, estimatorParamMaps=grid, evaluator=evaluator, numFolds=2, seed=1
    ).fit(df)
    assert len(fitted.avgMetrics) == 2
    best = int(np.argmax(fitted.avgMetrics))
    assert len(fitted.bestModel.result.get_best_model_history()["loss"]) == [1, 12][best]
    assert evaluator.evaluate(fitted.transform(df)) > 0.6


def test_regressions_predict_numbers(df, tmp_path):
    estimator = CerebrosEstimator(search=small, problemType="regression", epochs=1, numWorkers=1)
    extra = {estimator.featuresCols: FEATURES, estimator.labelCol: "y"}
    model = estimator.fit(df, {**extra, estimator.storePath: str(tmp_path)})
    out = model.transform(df)
    assert out.columns == [*df.columns, "prediction"]
    mse = RegressionEvaluator(labelCol="y", metricName="mse").evaluate(out)
    expected = model.result.evaluate(df)["loss"]
    assert mse == pytest.approx(expected, rel=1e-4)
    assert not estimator.isDefined(estimator.storePath)


def test_an_estimator_is_saved_with_its_parameters(spark, tmp_path):
    estimator = CerebrosEstimator(problemType="regression", epochs=3, featuresCols=["a", "b"])
    estimator.setTuner("bayesian").save(str(tmp_path / "it"))
    loaded = CerebrosEstimator.load(str(tmp_path / "it"))
    assert loaded.uid == estimator.uid
    assert loaded.extractParamMap() == estimator.extractParamMap()
    assert loaded.getEpochs() == 3
    assert loaded.getTuner() == "bayesian"


def test_copies_keep_the_search_function_which_cannot_be_saved(spark, tmp_path):
    estimator = CerebrosEstimator(search=small)
    copied = estimator.copy({estimator.epochs: 2})
    assert (copied.getEpochs(), estimator.getEpochs()) == (2, None)
    with pytest.raises(ArgumentError, match="can't be saved"):
        copied.save(str(tmp_path / "it"))


def test_an_empty_weight_column_is_none_as_in_spark_ml(df, tmp_path, monkeypatch):
    bound = []
    monkeypatch.setattr(HyperHyperModel, "resource_bind", lambda _, **given: bound.append(given))
    monkeypatch.setattr(HyperHyperModel, "fit", lambda *_, **options: None)
    estimator = CerebrosEstimator(search=small, labelCol="y", weightCol="")
    estimator._run_search(small(estimator), df, LocalStore(tmp_path))
    assert bound[0]["sample_weight_column"] is None
    assert bound[0]["group_column"] is bound[0]["time_column"] is None
    estimator.setParams(groupCol="a", timeCol="b")._run_search(
        small(estimator), df, LocalStore(tmp_path)
    )
    assert (bound[1]["group_column"], bound[1]["time_column"]) == ("a", "b")


def test_wrong_parameters_are_named(spark, df):
    with pytest.raises(ArgumentError, match="no parameter 'max_trials'"):
        CerebrosEstimator(max_trials=1)
    with pytest.raises(ArgumentError, match="problemType must be"):
        CerebrosEstimator().fit(df)
    with pytest.raises(ArgumentError, match="comes from"):
        CerebrosModel().transform(df)


def test_getters_and_setters_are_documented_methods():
    assert CerebrosEstimator.setMaxTrials.__name__ == "setMaxTrials"
    assert CerebrosEstimator.getEpochs.__doc__ == "Return ``epochs``; None if it is not set."
    own = [param for param in CerebrosEstimator().params if param.name != "featuresCols"]
    for param in own:
        name = param.name[0].upper() + param.name[1:]
        for verb in ("get", "set"):
            assert getattr(CerebrosEstimator, verb + name).__doc__
