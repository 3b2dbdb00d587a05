"""Metrics against labels in real searches: histories, evaluations and exported models."""

from __future__ import annotations

import logging
import re
import zipfile
from pathlib import Path
from typing import Any

import autokeras as ak
import keras
import numpy as np
import pandas as pd
import pytest
from sklearn import metrics as sk

from cerebros_spark import LocalBackend, LocalStore
from cerebros_spark.core.errors import ArgumentError
from nas import DenseUnit, FixedModel, HyperHyperModel, SimpleCerebrosRandomSearch
from tests.nas.custom_searches import own_table, searcher
from tests.nas.exported import check_in_a_fresh_process, keep
from tests.nas.small_searches import FEATURES, columns, search, table

pytestmark = pytest.mark.usefixtures("eager_training")


def macro_f1(y: Any, p: np.ndarray) -> float:
    return float(sk.f1_score(y, p.argmax(axis=1), average="macro"))


@pytest.fixture(scope="module")
def frame() -> pd.DataFrame:
    return table()


# Class indices --------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("metrics")


@pytest.fixture(scope="module")
def three(folder: Path, frame: pd.DataFrame) -> HyperHyperModel:
    """A search on the class indices 0, 1 and 2, in two partitions."""
    auto_model = search(
        folder / "store",
        outputs=ak.ClassificationHead(metrics="categorical_accuracy"),
        objective="val_macro_f1",
        bind=columns(
            "three",
            evaluation_metric=[
                keras.metrics.F1Score(average="macro", name="macro_f1"),
                *("precision", keras.metrics.AUC(num_thresholds=2000, name="auc"), "f1_score"),
            ],
            backend=LocalBackend(2),
        ),
    )
    checkpoint = keras.callbacks.ModelCheckpoint(
        str(folder / "last.keras"), "val_macro_f1", save_best_only=True
    )
    auto_model.fit(frame, epochs=4, verbose=0, callbacks=[checkpoint])
    return auto_model


def values_of(frame: pd.DataFrame, p: np.ndarray) -> dict[str, Any]:
    y = frame["three"].to_numpy()
    every = np.eye(3)[y].ravel()
    return {
        "macro_f1": pytest.approx(macro_f1(y, p), rel=1e-4),
        "f1_score": pytest.approx(macro_f1(y, p), rel=1e-4),
        "precision": pytest.approx(
            sk.precision_score(every, p.ravel() > 0.5, zero_division=0), rel=1e-4
        ),
        "auc": pytest.approx(sk.roc_auc_score(every, p.ravel()), abs=2e-3),
        "categorical_accuracy": pytest.approx(sk.accuracy_score(y, p.argmax(axis=1)), rel=1e-4),
        "loss": pytest.approx(sk.log_loss(y, p.astype("float64")), rel=1e-4),
    }


def test_the_history_of_a_search_has_the_right_values(three, frame):
    late = frame[frame["late"]]
    history = three.result.get_best_model_history()
    scores = history["val_macro_f1"]
    best = int(np.argmax(scores))
    found = {name: history[f"val_{name}"][best] for name in history if f"val_{name}" in history}
    assert found == values_of(late, three.predict(late))
    assert three.result.leaderboard()["score"][0] == max(scores)


def test_evaluation_of_arrays_has_the_right_values(three, frame):
    found = three.evaluate(frame[FEATURES], frame["three"], return_dict=True)
    assert found == values_of(frame, three.predict(frame))
    assert next(iter(found)) == "loss"
    assert three.evaluate(frame[FEATURES], frame["three"]) == pytest.approx(list(found.values()))


def test_evaluation_of_a_spark_dataframe_has_the_right_values(three, frame, spark):
    df = spark.createDataFrame(frame).repartition(3)
    assert three.evaluate(df, return_dict=True) == values_of(frame, three.predict(frame))


def test_the_exported_model_needs_keras_alone_and_has_no_wrong_metric(three, frame, folder):
    model = three.export_model(raw=False)
    x, y = three.result.model_inputs(frame[FEATURES]), frame["three"].to_numpy()[:, None]
    right = values_of(frame, three.predict(frame))
    evaluated = model.evaluate(x, y, verbose=0, return_dict=True)
    assert evaluated == {name: right[name] for name in ("loss", "categorical_accuracy")}
    (folder / "export").mkdir()
    keep(folder / "export", "three", model, [x])
    check_in_a_fresh_process(folder / "export", tolerance=1e-5)
    for path in (folder / "export" / "three.keras", *folder.glob("trial-*/last.keras")):
        assert b"OneHotLabels" not in zipfile.ZipFile(path).read("config.json")


# Other heads ----------------------------------------------------------------------------------


def test_one_sigmoid_output(tmp_path, frame, caplog):
    caplog.set_level(logging.INFO, "nas")
    auto_model = search(
        tmp_path,
        outputs=ak.ClassificationHead(metrics=["accuracy", keras.metrics.F1Score()]),
        max_trials=1,
        objective="val_f1_score",
        bind=columns("binary", evaluation_metric="sparse_categorical_accuracy"),
    )
    auto_model.fit(frame, epochs=3, verbose=0)
    found = auto_model.evaluate(frame[FEATURES], frame["binary"], return_dict=True)
    predicted = auto_model.predict(frame)[:, 0] > 0.5
    accuracy = pytest.approx(sk.accuracy_score(frame["binary"], predicted))
    assert found["f1_score"] == pytest.approx(sk.f1_score(frame["binary"], predicted), rel=1e-4)
    assert found["accuracy"] == found["sparse_categorical_accuracy"] == accuracy
    words = r"f1_score of the output \w+ as F1Score\(average='macro', threshold=0.5\): the label 'b"
    assert re.search(words, caplog.text)
    # Keras' own metrics alone: the exported model has them all.
    exported = auto_model.export_model(raw=False)
    x = auto_model.result.model_inputs(frame[FEATURES])
    evaluated = exported.evaluate(x, frame[["binary"]].to_numpy(), verbose=0, return_dict=True)
    assert evaluated == pytest.approx(found)


def test_several_labels_a_row(tmp_path, frame):
    labels = np.stack([frame["a"] > 0, frame["b"] > 0.5], axis=1).astype("float32")
    labels[0] = 1
    auto_model = search(
        tmp_path, outputs=ak.ClassificationHead(multi_label=True), max_trials=1,
        bind={"evaluation_metric": "f1_score"},
    )  # fmt: skip
    auto_model.fit(frame[FEATURES].to_numpy(), labels, epochs=3, verbose=0)
    found = auto_model.evaluate(frame[FEATURES].to_numpy(), labels, return_dict=True)
    over = auto_model.predict(frame[FEATURES].to_numpy()) > 0.5
    assert found["accuracy"] == pytest.approx((over == labels).mean())
    assert found["f1_score"] == pytest.approx(
        sk.f1_score(labels, over, average="macro", zero_division=0), rel=1e-4
    )


@pytest.mark.parametrize(
    ("head", "label", "metric", "words"),
    [
        (
            ak.ClassificationHead(), "three", keras.metrics.F1Score(),
            r"metric 'f1_score' \(F1Score\) of the output 'classification_head_\d+': it gives one "
            'value for each class; give one average of them: average="macro", "micro"',
        ),
        (
            ak.ClassificationHead(metrics=["hinge", keras.metrics.MeanIoU(2)]), "three", None,
            r"\(MeanIoU\) .* num_classes is 2, but there are 3; give num_classes=3",
        ),
        (
            ak.RegressionHead(), "y", "precision",
            "'precision' .* the label 'y' holds numbers that are not classes; use a metric for",
        ),
        (ak.RegressionHead(), "y", "accuracy", "'accuracy' .* needs classes"),
        (ak.RegressionHead(metrics=[keras.metrics.Mean()]), "y", None, "derive a class from it"),
        (
            ak.ClassificationHead(loss="kl_divergence"), "three", None,
            "cannot use the loss 'kl_divergence' .* 'three' holds class indices; use Sparse",
        ),
        (
            ak.ClassificationHead(loss=keras.losses.CategoricalCrossentropy(label_smoothing=0.1)),
            "three", None, "cannot smooth labels: the label 'three' holds class indices",
        ),
        (
            ak.ClassificationHead(loss="categorical_crossentropy"), "binary", None,
            "CategoricalCrossentropy|'categorical_crossentropy' .* use BinaryCrossentropy",
        ),
        (
            ak.RegressionHead(loss="binary_crossentropy"), "y", None,
            "needs labels of 0 and 1, .* use a loss for numbers",
        ),
    ],
)  # fmt: skip
def test_unsuitable_metrics_are_refused_before_any_training(
    tmp_path, frame, head, label, metric, words
):
    auto_model = search(tmp_path, outputs=head, bind=columns(label, evaluation_metric=metric))
    with pytest.raises(ArgumentError, match=words):
        auto_model.fit(frame, epochs=1, verbose=0)
    assert not (tmp_path / "runs").exists()


def test_a_metric_that_needs_arguments_is_refused_when_it_is_bound(tmp_path):
    with pytest.raises(ArgumentError, match=r"give keras.metrics.MeanIoU\(num_classes=...\)"):
        search(tmp_path, bind=columns(evaluation_metric="mean_io_u"))


# Custom networks ------------------------------------------------------------------------------


def two_outputs(**compiled: Any) -> Any:
    def build(hp: Any) -> keras.Model:
        node = keras.Input((3,))
        dense = keras.layers.Dense
        ends = [dense(1, name="price")(node), dense(3, activation="softmax", name="kind")(node)]
        model = keras.Model(node, ends)
        loss = {"price": "mse", "kind": "sparse_categorical_crossentropy"}
        model.compile(keras.optimizers.Adam(0.05), loss, **compiled)
        return model

    return build


def test_metrics_of_a_custom_network(tmp_path):
    frame = own_table()
    f1 = keras.metrics.F1Score(average="macro", name="macro_f1")
    build = two_outputs(
        metrics={"kind": ["accuracy", f1]},
        weighted_metrics=[["mae"], [keras.metrics.CategoricalAccuracy(name="right"), "recall"]],
    )
    auto_model = searcher(tmp_path, build, objective="val_kind_macro_f1")
    x, y = frame[FEATURES], [frame["y"], frame["three"]]
    weights = np.where(frame["a"] > 0, 2.0, 0.5)
    auto_model.fit(x, y, epochs=2, verbose=0, sample_weight=weights)
    found = auto_model.evaluate(x, y, return_dict=True, sample_weight=weights)
    price, kind = auto_model.predict(x)
    right = kind.argmax(axis=1) == frame["three"]
    one_hot = np.eye(3)[frame["three"]]
    assert found == {
        **{name: value for name, value in found.items() if name.endswith("loss")},
        "kind_accuracy": pytest.approx(right.mean()),
        "kind_macro_f1": pytest.approx(macro_f1(frame["three"], kind), rel=1e-4),
        "price_mae": pytest.approx(
            np.average(np.abs(price[:, 0] - frame["y"]), weights=weights), rel=1e-4
        ),
        "kind_right": pytest.approx(np.average(right, weights=weights), rel=1e-4),
        "kind_recall": pytest.approx(
            sk.recall_score(one_hot.ravel(), kind.ravel() > 0.5,
                            sample_weight=np.repeat(weights, 3)), rel=1e-4
        ),
    }  # fmt: skip
    labels = auto_model.result.model_labels(y)
    evaluated = auto_model.export_model().evaluate(
        x.to_numpy("float32"), labels, verbose=0, return_dict=True, sample_weight=weights
    )
    assert evaluated == pytest.approx({name: found[name] for name in evaluated}, rel=1e-5)
    assert set(evaluated) == set(found) - {"kind_macro_f1", "kind_recall"}


@pytest.mark.parametrize(
    ("compiled", "words"),
    [
        ({"metrics": {"price": ["precision"]}}, "'precision' .* of the output 'price'"),
        ({"weighted_metrics": [None, [keras.metrics.F1Score()]]}, "of the output 'kind'.*macro"),
    ],
)
def test_unsuitable_metrics_in_compile_are_refused(tmp_path, compiled, words):
    frame = own_table()
    auto_model = searcher(tmp_path, two_outputs(**compiled))
    with pytest.raises(ArgumentError, match=words):
        auto_model.fit(frame[FEATURES], [frame["y"], frame["three"]], epochs=1, verbose=0)
    assert not (tmp_path / "runs").exists()


def test_metrics_of_the_right_form_stay_as_they_are_compiled(tmp_path):
    frame = own_table()
    build = two_outputs(metrics=[["mae"], ["accuracy"]])
    auto_model = searcher(tmp_path, build)
    auto_model.fit(frame[FEATURES], [frame["y"], frame["three"]], epochs=1, verbose=0)
    assert auto_model.export_model().get_compile_config()["metrics"] == [["mae"], ["accuracy"]]


def classifier(units: int, activation: str, loss: Any, **compiled: Any) -> keras.Model:
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(units, activation=activation)])
    model.compile("adam", loss, **compiled)
    return model


def test_a_fixed_model_gets_suitable_metrics(tmp_path):
    frame = own_table()
    model = classifier(3, "softmax", "sparse_categorical_crossentropy")
    auto_model = searcher(
        tmp_path, FixedModel(model, metrics=["f1_score"]), objective="val_f1_score"
    )
    auto_model.fit(frame[FEATURES], frame["three"], epochs=1, verbose=0)
    found = auto_model.evaluate(frame[FEATURES], frame["three"], return_dict=True)
    right = macro_f1(frame["three"], auto_model.predict(frame[FEATURES]))
    assert found["f1_score"] == pytest.approx(right, rel=1e-4)


@pytest.mark.parametrize(
    ("units", "activation", "loss", "words"),
    [
        (
            3,
            "softmax",
            "sparse_categorical_crossentropy",
            "needs class indices, .* Categorical",
        ),
        (3, "sigmoid", "cosine_similarity", ""),
        (1, "sigmoid", "kl_divergence", "holds 0 and 1 for one output; use BinaryCrossentropy"),
        (1, "linear", "binary_crossentropy", "outputs between 0 and 1"),
    ],
)
def test_losses_of_a_custom_network(tmp_path, units, activation, loss, words):
    frame = own_table()
    labels = frame["binary"] if units == 1 else np.eye(3)[frame["three"]]
    auto_model = searcher(tmp_path, classifier(units, activation, loss))
    if not words:
        auto_model.fit(frame[FEATURES].to_numpy(), labels, epochs=1, verbose=0)
        return
    with pytest.raises(ArgumentError, match=words):
        auto_model.fit(frame[FEATURES].to_numpy(), np.asarray(labels), epochs=1, verbose=0)
    assert not (tmp_path / "runs").exists()


def test_a_custom_metric_with_several_values_is_refused(tmp_path):
    class Each(keras.metrics.F1Score):
        additive = True

    frame = own_table()

    def build(hp: Any) -> keras.Model:
        return classifier(3, "softmax", "categorical_crossentropy", metrics=[Each(name="each")])

    auto_model = searcher(tmp_path, build, custom_objects={"Each": Each})
    with pytest.raises(ArgumentError, match=r"'each': its value has the shape \(3,\), .* average"):
        auto_model.fit(
            frame[FEATURES].to_numpy(), np.eye(3)[frame["three"]].astype("float32"), epochs=1,
            verbose=0,
        )  # fmt: skip


# The original's arguments ---------------------------------------------------------------------


def simple(folder: Path, labels: np.ndarray, **more: Any) -> SimpleCerebrosRandomSearch:
    return SimpleCerebrosRandomSearch(
        **{
            "unit_type": DenseUnit,
            "input_shapes": [3],
            "output_shapes": [3],
            "training_data": [table()[FEATURES].to_numpy()],
            "labels": [labels],
            "minimum_levels": 1,
            "maximum_levels": 1,
            "maximum_units_per_level": 1,
            "number_of_architecture_moities_to_try": 1,
            "number_of_tries_per_architecture_moity": 1,
            "final_activation": "softmax",
            "loss": "sparse_categorical_crossentropy",
            "direction": "maximize",
            "epochs": 2,
            "batch_size": 30,
            "project_name": "simple",
            "directory": folder,
            "verbose": 0,
            **more,
        }
    )


def test_the_arguments_of_the_original(tmp_path, frame):
    auto_model = simple(
        tmp_path, frame["three"].to_numpy(), metrics=["f1_score"], metric_to_rank_by="val_f1_score"
    )
    best = auto_model.run_random_search()
    assert best == pytest.approx(max(auto_model.result.trials[0].history["val_f1_score"]))
    found = auto_model.result.scoring_model.evaluate(
        frame[FEATURES].to_numpy(), frame["three"].to_numpy()[:, None], verbose=0, return_dict=True
    )
    p = auto_model.get_best_model().predict(frame[FEATURES].to_numpy(), verbose=0)
    assert found["f1_score"] == pytest.approx(macro_f1(frame["three"], p), rel=1e-4)


def test_the_original_refuses_unsuitable_metrics_at_once(tmp_path, frame):
    labels = frame["three"].to_numpy()
    for more, words in (
        ({"metrics": [keras.metrics.F1Score()]}, 'give one average of them: average="macro"'),
        ({"loss": "categorical_crossentropy"}, "needs a label for each output"),
    ):
        with pytest.raises(ArgumentError, match=words):
            simple(tmp_path, labels, **{"metric_to_rank_by": "val_loss", **more})
    assert not LocalStore(tmp_path).list("runs")
