"""Every block of AutoKeras: built, trained by hops, exported, loaded by Keras alone."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import autokeras as ak
import keras
import keras_tuner
import numpy as np
import pytest

from cerebros_spark import LocalStore, SparkBackend
from nas import HyperHyperModel
from tests.nas.exported import check_in_a_fresh_process, keep
from tests.nas.spaces.autokeras.small_graphs import (
    CLASSES,
    COLOUR,
    GRAY,
    ROWS,
    TABLE,
    TABLE_OF_BLOCKS,
    TOKENS,
    Row,
)

pytestmark = pytest.mark.usefixtures("eager_training")


def searched(store: Path, inputs: Any, outputs: Any, **bind: Any) -> HyperHyperModel:
    auto_model = HyperHyperModel(inputs, outputs, project_name="blocks", seed=1)
    auto_model.resource_bind(store=LocalStore(store), **bind)
    return auto_model


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("exported")


@pytest.mark.parametrize(
    ("name", "row"), [pytest.param(name, row, id=name) for name, row in TABLE_OF_BLOCKS.items()]
)
def test_a_block_trains_by_hops(name: str, row: Row, tmp_path, folder):
    auto_model = searched(tmp_path, *row.graph())
    auto_model.tuner_bind("random", hyperparameters=row.overrides(), max_trials=1)
    result = auto_model.fit(
        row.x, CLASSES, epochs=2, batch_size=16, verbose=0, input_shape=row.input_shape
    )
    assert result.leaderboard()["status"].tolist() == ["completed"]
    history = result.get_best_model_history()
    assert np.isfinite([*history["loss"], *history["val_loss"]]).all()
    assert json.loads(result.best_trial.program)["imports"] == []
    rows = row.x.reshape(ROWS, *(row.input_shape or row.x.shape[1:]))
    keep(folder, name, auto_model.export_model(), [rows])


def test_several_inputs_and_outputs_train_on_spark(spark, tmp_path, folder):
    keras.backend.clear_session()
    image, ids, table = ak.ImageInput(), ak.TextInput(), ak.Input()
    convolved = ak.ConvBlock(num_blocks=1, num_layers=1, filters=4)(ak.Normalization()(image))
    read = ak.Embedding(max_features=700, embedding_dim=32)(ids)
    dense = ak.DenseBlock(num_layers=1)(ak.Normalization()(table))
    merged = ak.Merge()([convolved, read, dense])
    heads = [
        ak.RegressionHead(loss="mean_absolute_error", metrics=[keras.metrics.R2Score()]),
        ak.ClassificationHead(metrics=["accuracy"], dropout=0.25),
    ]
    auto_model = searched(
        tmp_path,
        [image, ids, table],
        [head(merged) for head in heads],
        backend=SparkBackend(spark_context=spark.sparkContext, num_workers=2),
        feature_columns=["image", "ids", "table"],
        label_columns=["y", "class"],
        evaluation_metric="mae",
    )
    auto_model.tuner_bind("random", max_trials=1)
    rows = [
        (g.ravel().tolist(), t.tolist(), v.tolist(), float(v[0]), int(c))
        for g, t, v, c in zip(GRAY, TOKENS, TABLE, CLASSES, strict=True)
    ]
    frame = spark.createDataFrame(rows, ["image", "ids", "table", "y", "class"])
    shapes = [(8, 8, 1), None, None]
    result = auto_model.fit(frame, epochs=2, batch_size=16, verbose=0, input_shape=shapes)
    assert result.leaderboard()["status"].tolist() == ["completed"]
    history = result.get_best_model_history()
    assert {"val_regression_head_1_r2_score", "val_classification_head_1_accuracy"} <= set(history)
    assert auto_model.predict(frame).columns[-3:] == ["y__output", "class__output", "class__class"]
    keep(folder, "on Spark", auto_model.export_model(), [GRAY, TOKENS.astype("int32"), TABLE])


def test_images_alone_train_on_spark(spark, tmp_path, folder):
    auto_model = searched(
        tmp_path,
        ak.ImageInput(),
        ak.ClassificationHead(),
        backend=SparkBackend(spark_context=spark.sparkContext, num_workers=2),
        feature_columns=["pixels"],
        label_columns=["class"],
    )
    hp = keras_tuner.HyperParameters()
    hp.Fixed("image_1/block_type", "vanilla")
    hp.Fixed("image_1/conv/num_blocks", 1)
    auto_model.tuner_bind("random", hyperparameters=hp, max_trials=1)
    frame = spark.createDataFrame(
        [(x.ravel().tolist(), int(c)) for x, c in zip(COLOUR, CLASSES, strict=True)],
        ["pixels", "class"],
    )
    result = auto_model.fit(frame, epochs=1, verbose=0, input_shape=(8, 8, 3))
    assert result.leaderboard()["status"].tolist() == ["completed"]
    keep(folder, "images alone", auto_model.export_model(), [COLOUR])


# The last one: it looks at what the tests above it have saved.
def test_exported_models_load_in_a_fresh_process_with_keras_alone(folder):
    check_in_a_fresh_process(folder)
