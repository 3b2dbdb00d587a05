from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import autokeras as ak
import keras
import keras_tuner
import numpy as np
import own_models
import pandas as pd
import pytest
from exported import check_in_a_fresh_process, keep
from own_models import CUSTOM, Gap, OwnStep, Registered, Subclassed, Unwritable, with_customs
from small_searches import FEATURES, search, table

from cerebros_spark import LocalBackend, LocalStore, SparkBackend
from cerebros_spark.errors import ArgumentError, SearchError, TrialError
from cerebros_spark.replay import Replay
from cerebros_spark.training.optimizers import undecayed
from cerebros_spark.types import TrialSpec
from cerebros_spark.worker import read_spec
from nas import FixedModel, HyperHyperModel
from nas.spaces.own import OwnSpace, custom_objects_of, source_of

ROWS = 90


@pytest.fixture(scope="module")
def frame():
    made = table()
    made["y"] = (made["y"] - 100) / 10
    return made


def searcher(folder: Path, hypermodel: Any, workers: int = 1, **more: Any) -> HyperHyperModel:
    more = {"max_trials": 1, "seed": 0, "project_name": "own", **more}
    made = HyperHyperModel(hypermodel=hypermodel, **more)
    made.resource_bind(store=LocalStore(folder), backend=LocalBackend(workers))
    return made


def on_spark(made: HyperHyperModel, spark: Any, folder: Path) -> HyperHyperModel:
    made.resource_bind(
        backend=SparkBackend(spark_context=spark.sparkContext, num_workers=2),
        store=LocalStore(folder),
        feature_columns=FEATURES,
        label_columns=["y"],
    )
    return made


def fitted(folder: Path, hypermodel: Any, frame: Any, label: str = "y", **more: Any) -> Any:
    made = searcher(folder, hypermodel, **more)
    made.fit(frame[FEATURES], frame[label], epochs=1, verbose=0)
    board = made.result.leaderboard()
    assert set(board["status"]) == {"completed"}, board["traceback"].tolist()
    return made


def specs(folder: Path, made: HyperHyperModel) -> list[TrialSpec]:
    return [read_spec(LocalStore(folder), "own", trial.trial_id) for trial in made.result.trials]


def small(hp: Any) -> keras.Model:
    model = keras.Sequential(
        [
            keras.layers.Dense(hp.Int("units", 2, 9), activation="relu"),
            keras.layers.Dense(3, activation="softmax"),
        ]
    )
    model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
    hp.Choice("batch_size", [8, 24])
    return model


def regression(*, compiled: bool = True, name: str = "fixed") -> keras.Model:
    node = keras.Input((3,))
    model = keras.Model(node, keras.layers.Dense(1)(keras.layers.Dense(4)(node)), name=name)
    if compiled:
        model.compile(keras.optimizers.Nadam(0.02, beta_1=0.8), "mse", metrics=["mae"])
    return model


# What builds -----------------------------------------------------------------------------


def test_the_best_hyperparameters_are_those_of_trials_with_a_score(tmp_path, frame):
    def build(hp: Any) -> keras.Model:
        if hp.Choice("fails", [False, True]):
            raise ValueError("not this one")
        return regression()

    made = searcher(tmp_path, build, max_trials=2)
    made.fit(frame[FEATURES], frame["y"], epochs=1, verbose=0)
    assert len(made.result.trials) == 2
    assert [hp.values for hp in made.get_best_hyperparameters(9)] == [{"fails": False}]


def test_a_function_builds(tmp_path, frame):
    made = fitted(tmp_path, small, frame, "three", max_trials=2)
    values = [trial.values for trial in made.result.trials]
    assert all(2 <= value["units"] <= 9 for value in values)
    sizes = [spec.batch_size for spec in specs(tmp_path, made)]
    assert sizes == [value["batch_size"] for value in values]
    assert set(sizes) == {8, 24}
    rows = frame[FEATURES].to_numpy("float32")
    told = made.predict(frame[FEATURES])
    assert told.shape == (ROWS, 3)
    np.testing.assert_allclose(told, made.export_model().predict(rows, verbose=0), rtol=1e-5)
    assert list(made.evaluate(frame, return_dict=True)) == ["loss", "accuracy"]


class Tuned(keras_tuner.HyperModel):
    def declare_hyperparameters(self, hp: Any) -> None:
        hp.Choice("units", [3, 5])

    def build(self, hp: Any) -> keras.Model:
        keras.backend.clear_session()  # as many do
        node = keras.Input((3,))
        tensor = keras.layers.Dense(hp.get("units"))(node)
        model = keras.Model(node, [keras.layers.Dense(1)(tensor), keras.layers.Dense(2)(tensor)])
        loss = ["mse", keras.losses.SparseCategoricalCrossentropy(from_logits=True)]
        model.compile(loss=loss, metrics=[["mae"], ["accuracy"]])
        return model


def test_a_hypermodel_builds_networks_with_two_outputs(tmp_path, frame):
    made = searcher(tmp_path, Tuned(), max_trials=2)
    made.fit(frame[FEATURES], [frame["y"], frame["binary"]], epochs=1, verbose=0)
    assert {trial.values["units"] for trial in made.result.trials} <= {3, 5}
    assert [each.shape for each in made.predict(frame[FEATURES])] == [(ROWS, 1), (ROWS, 2)]
    assert "val_dense_2_accuracy" in made.result.get_best_model_history()


def test_columns_named_like_inputs_and_outputs_belong_to_them(tmp_path):
    def build(hp: Any) -> keras.Model:
        left, right = keras.Input((1,), name="left"), keras.Input((1,), name="right")
        ends = [
            keras.layers.Dense(1, kernel_initializer="zeros", name=name)(node)
            for name, node in (("double", left), ("half", right))
        ]
        model = keras.Model([left, right], ends)
        model.compile(keras.optimizers.SGD(0.0), {"double": "mse", "half": "mae"})
        return model

    x = {"right": np.full((ROWS, 1), 3.0), "left": np.full((ROWS, 1), 5.0)}
    y = {"half": np.full((ROWS, 1), 1.5), "double": np.full((ROWS, 1), 10.0)}
    made = searcher(tmp_path, build, max_trials=1)
    history = made.fit(x, y, epochs=1, verbose=0).get_best_model_history()
    assert history["double_loss"] == pytest.approx([100.0])
    assert history["half_loss"] == pytest.approx([1.5])
    told = made.evaluate({**x, **y}, return_dict=True)
    assert [told["double_loss"], told["half_loss"]] == pytest.approx([100.0, 1.5])
    model = made.export_model()
    model.set_weights([np.ones_like(weight) for weight in model.get_weights()])
    assert [float(each[0, 0]) for each in made.predict(x)] == [6.0, 4.0]


def test_inputs_may_be_a_dict(tmp_path):
    def build(hp: Any) -> keras.Model:
        nodes = {name: keras.Input((1,), name=name) for name in ("right", "left")}
        end = keras.layers.Subtract()([nodes["right"], nodes["left"]])
        model = keras.Model(nodes, keras.layers.Dense(1, kernel_initializer="ones")(end))
        model.compile(keras.optimizers.SGD(0.0), "mae")
        return model

    x = {"right": np.full((ROWS, 1), 3.0), "left": np.full((ROWS, 1), 5.0)}
    made = searcher(tmp_path, build, max_trials=1)
    made.fit(x, np.zeros((ROWS, 1)), epochs=1, verbose=0)
    assert made.predict(x)[0, 0] == -2.0
    assert made.export_model().predict(x, verbose=0)[0, 0] == -2.0


def test_a_batch_size_is_heeded_in_every_space(tmp_path, frame):
    hp = keras_tuner.HyperParameters()
    hp.Fixed("batch_size", 7)
    made = search(tmp_path, max_trials=1)
    made.tuner_bind(hyperparameters=hp)
    made.fit(frame[FEATURES], frame["y"], epochs=1, verbose=0)
    assert read_spec(LocalStore(tmp_path), "small", "trial-0000").batch_size == 7


# One model -------------------------------------------------------------------------------


def test_a_fixed_models_training_is_searched(tmp_path, frame):
    model = FixedModel(regression(), learning_rate=(0.001, 0.05))
    made = fitted(tmp_path, model, frame, max_trials=2)
    for trial, spec in zip(made.result.trials, specs(tmp_path, made), strict=True):
        assert set(trial.values) == {"optimizer", "learning_rate", "batch_size"}
        assert spec.batch_size == trial.values["batch_size"] in (16, 32, 64)
        optimizer = made.result.get_model(trial.trial_id).optimizer
        assert type(optimizer).__name__.lower() == trial.values["optimizer"]
        assert float(optimizer.learning_rate) == pytest.approx(trial.values["learning_rate"])
    known = {hp.name: hp for hp in made.tuner.running.hyperparameters.space}
    assert known["optimizer"].values == ["nadam", "adam", "sgd", "rmsprop", "adamw"]
    assert known["optimizer"].default == "nadam"
    assert known["learning_rate"].default == pytest.approx(0.02)


def test_nadam_trains_as_keras_does(tmp_path, frame):
    model = FixedModel(
        regression(), keep_weights=True, optimizers=[], learning_rate=0.02, batch_sizes=[ROWS]
    )
    made = searcher(tmp_path, model)
    made.resource_bind(
        backend=LocalBackend(1), store=LocalStore(tmp_path), validation="late", label_columns=["y"]
    )
    made.fit(frame[[*FEATURES, "y", "late"]], epochs=3, verbose=0)
    alone = model.build(keras_tuner.HyperParameters())
    early = frame[~frame["late"]]
    x, y = early[FEATURES].to_numpy("float32"), early["y"].to_numpy("float32")
    wanted = alone.fit(x, y, batch_size=ROWS, epochs=3, verbose=0).history["loss"]
    assert made.result.get_best_model_history()["loss"] == pytest.approx(wanted, rel=1e-4)


def test_its_own_optimizer_keeps_its_settings():
    hp = keras_tuner.HyperParameters()
    hp.Fixed("learning_rate", 0.3)
    model = FixedModel(regression(), learning_rate=(0.1, 1.0)).build(hp)
    assert (model.optimizer.beta_1, float(model.optimizer.learning_rate)) == (
        0.8,
        pytest.approx(0.3),
    )


def test_what_scales_its_loss_is_kept_at_every_rate():
    model = regression(compiled=False)
    scaled = keras.optimizers.LossScaleOptimizer(keras.optimizers.SGD(0.5), initial_scale=4.0)
    model.compile(scaled, "mse")
    hp = keras_tuner.HyperParameters()
    hp.Fixed("learning_rate", 0.3)
    made = FixedModel(model, learning_rate=(0.1, 1.0), optimizers=[]).build(hp)
    assert hp.values["optimizer"] == "sgd"
    assert float(made.optimizer.learning_rate) == pytest.approx(0.3)
    assert made.optimizer.initial_scale == 4.0


@pytest.mark.parametrize("keep", [False, True])
def test_weights_are_kept_where_that_is_asked_for(keep):
    model = regression()
    made = FixedModel(model, keep_weights=keep).build(keras_tuner.HyperParameters())
    same = [np.array_equal(a, b) for a, b in zip(model.weights, made.weights, strict=True)]
    assert same == ([True] * 4 if keep else [False, True, False, True])
    made.set_weights([weight + 1 for weight in made.get_weights()])
    assert not np.array_equal(made.weights[0], model.weights[0])  # nothing is shared


def test_the_trials_weights_come_from_its_seed(tmp_path, frame):
    first = fitted(tmp_path / "a", regression(), frame, max_trials=2)
    second = fitted(tmp_path / "b", regression(), frame, max_trials=2)
    for one, other in zip(first.result.trials, second.result.trials, strict=True):
        assert one.score == pytest.approx(other.score, rel=1e-5)


def sequential(*, with_input: bool) -> keras.Model:
    layers = [keras.layers.Dense(4, activation="relu"), keras.layers.Dense(1)]
    return keras.Sequential([keras.Input((3,)), *layers] if with_input else layers)


@pytest.mark.parametrize("with_input", [True, False])
def test_a_sequential_model_is_searched(tmp_path, frame, with_input):
    model = sequential(with_input=with_input)
    made = fitted(tmp_path, FixedModel(model, loss="mse", metrics=["mae"]), frame)
    assert model.built == with_input
    assert made.predict(frame[FEATURES]).shape == (ROWS, 1)
    assert list(made.evaluate(frame, return_dict=True)) == ["loss", "mae"]


def test_a_subclassed_model_is_searched(tmp_path, frame):
    model = Subclassed(5)
    model.compile(loss="mse")
    made = fitted(tmp_path, model, frame, custom_objects={"Subclassed": Subclassed})
    assert not model.built
    assert made.predict(frame[FEATURES]).shape == (ROWS, 1)


def test_adapted_statistics_are_kept(tmp_path, frame):
    def build(hp: Any) -> keras.Model:
        layer = keras.layers.Normalization()
        layer.adapt(100 + frame[FEATURES].to_numpy("float32"))
        model = keras.Sequential([keras.Input((3,)), layer, keras.layers.Dense(1)])
        model.compile("sgd", "mse")
        return model

    made = fitted(tmp_path, build, frame)
    (layer,) = [x for x in made.export_model().layers if isinstance(x, keras.layers.Normalization)]
    assert not layer.weights
    out = layer(100 + frame[FEATURES].to_numpy("float32"))
    np.testing.assert_allclose(np.asarray(out).mean(axis=0), 0, atol=1e-3)


def test_flat_rows_take_the_shape_of_an_image(tmp_path, frame):
    def build(hp: Any) -> keras.Model:
        model = keras.Sequential(
            [
                keras.Input((3, 1)),
                keras.layers.Conv1D(2, 2),
                keras.layers.Flatten(),
                keras.layers.Dense(1),
            ]
        )
        model.compile(loss="mse")
        return model

    assert fitted(tmp_path, build, frame).predict(frame[FEATURES]).shape == (ROWS, 1)


# Custom objects --------------------------------------------------------------------------


@pytest.fixture(scope="module")
def customs(tmp_path_factory, frame):
    """A search over networks with custom objects, and its store."""
    folder = tmp_path_factory.mktemp("customs")
    return fitted(folder, with_customs, frame, custom_objects=CUSTOM, workers=2), LocalStore(folder)


def test_custom_objects_are_known_everywhere(tmp_path, frame, customs):
    made, _ = customs
    assert {"val_gap", "val_loss"} <= set(made.result.get_best_model_history())
    best = made.export_model()
    assert any(type(layer) is own_models.Doubled for layer in best.layers)
    assert made.evaluate(frame, return_dict=True)["loss"] > 0
    assert "Doubled" not in keras.saving.get_custom_objects()

    rows = frame[FEATURES].to_numpy("float32")
    np.testing.assert_allclose(
        made.predict(frame[FEATURES]), best.predict(rows, verbose=0), rtol=1e-5
    )
    keep(tmp_path, "best", best, [rows])
    check_in_a_fresh_process(custom=(tmp_path, "own_models"), tolerance=1e-5)


class Falling(keras.optimizers.schedules.LearningRateSchedule):
    def __call__(self, step: Any) -> Any:
        return 0.01 / (1 + keras.ops.cast(step, "float32"))

    def get_config(self) -> dict[str, Any]:
        return {}


def test_a_schedule_may_be_a_custom_object(tmp_path, frame):
    def build(hp: Any) -> keras.Model:
        model = regression(compiled=False)
        model.compile(keras.optimizers.SGD(Falling()), "mse")
        return model

    made = fitted(tmp_path, build, frame, max_trials=1, custom_objects={"Falling": Falling})
    steps = made.export_model().optimizer
    assert float(steps.learning_rate) == pytest.approx(0.01 / (1 + int(steps.iterations)))


def test_what_does_not_decay_is_kept_where_a_model_is_made_functional():
    def build(hp: Any) -> keras.Model:
        optimizer = keras.optimizers.AdamW(0.01)
        optimizer.exclude_from_weight_decay(var_names=["bias"])
        model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(4), keras.layers.Dense(1)])
        model.compile(optimizer, "mse")
        return model

    model = OwnSpace(source_of(build), [(3,)], ["float32"], {}).build(None)
    assert undecayed(model.optimizer, model.trainable_variables) == [[1, 3]]


def test_a_replay_is_given_them_too(customs):
    _, store = customs
    found = Replay(store, "own", CUSTOM).compare("trial-0000")
    assert found.units == 4
    with pytest.raises(TrialError, match=r"Could not locate .*custom_objects"):
        Replay(store, "own").compare("trial-0000")


def test_registered_objects_need_not_be_named(tmp_path, frame):
    def build(hp: Any) -> keras.Model:
        model = keras.Sequential([keras.Input((3,)), Registered(), keras.layers.Dense(1)])
        model.compile(loss="mse")
        return model

    fitted(tmp_path, build, frame)


def test_what_a_notebook_registers_is_sent_along(monkeypatch):
    monkeypatch.setattr(Registered, "__module__", "__main__")
    assert custom_objects_of(None) == {"own_models>Registered": Registered}


def test_all_of_it_runs_on_spark(spark, tmp_path, frame):
    made = HyperHyperModel(
        hypermodel=with_customs,
        custom_objects={**CUSTOM, "Registered": Registered},
        project_name="own",
        max_trials=1,
        seed=0,
    )
    on_spark(made, spark, tmp_path)
    # One partition is scored by one process, and each that begins imports TensorFlow.
    df = spark.createDataFrame(frame).coalesce(1)
    made.fit(df, epochs=1, verbose=0)
    board = made.result.leaderboard()
    assert set(board["status"]) == {"completed"}, board["traceback"].tolist()
    out = made.predict(df).toPandas()
    told = made.predict(out[FEATURES])
    np.testing.assert_allclose(out["y__output"], told[:, 0], rtol=1e-4, atol=1e-6)
    wanted = made.evaluate(frame, batch_size=ROWS, return_dict=True)
    assert made.evaluate(df, return_dict=True) == pytest.approx(wanted, rel=1e-4)


def test_what_can_not_be_sent_is_named_before_any_work(spark, tmp_path, frame):
    lock = threading.Lock()

    def held(x: Any) -> Any:
        return lock and x

    made = HyperHyperModel(hypermodel=regression(), custom_objects={"held": held})
    on_spark(made, spark, tmp_path)
    with pytest.raises(ArgumentError, match=r"custom_objects\['held'\] can't be sent"):
        made.fit(spark.createDataFrame(frame), epochs=1, verbose=0)
    assert not LocalStore(tmp_path).list("data")


# Going on --------------------------------------------------------------------------------


def test_a_run_goes_on_with_the_same_builder_only(tmp_path, frame):
    first = fitted(tmp_path, FixedModel(regression(), keep_weights=False), frame)
    again = fitted(tmp_path, regression(name="other"), frame)
    assert again.result.best_trial.score == first.result.best_trial.score
    for other in (FixedModel(regression(), keep_weights=True), with_customs):
        made = searcher(tmp_path, other, custom_objects=CUSTOM)
        with pytest.raises(ArgumentError, match=r"begun with hypermodel"):
            made.fit(frame[FEATURES], frame["y"], epochs=1, verbose=0)


# Errors ----------------------------------------------------------------------------------


class WithFit(Tuned):
    def fit(self, hp: Any, model: Any, *args: Any, **more: Any) -> Any:
        return model.fit(*args, **more)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({}, r"inputs and outputs are missing.*hypermodel="),
        ({"hypermodel": small, "inputs": ak.Input()}, r"hypermodel stands for the whole network"),
        ({"hypermodel": WithFit()}, r"WithFit\.fit can't be used"),
        ({"hypermodel": Tuned}, r"hypermodel is the class Tuned"),
        ({"hypermodel": ak.DenseBlock()}, r"hypermodel is the AutoKeras block DenseBlock"),
        ({"hypermodel": "small"}, r"hypermodel must be a function .*'small'"),
        ({"hypermodel": regression(compiled=False)}, r"'fixed' has no loss"),
        ({"hypermodel": small, "custom_objects": [Gap]}, r"custom_objects must be a dict"),
        ({"hypermodel": small, "custom_objects": {"Gap": 3}}, r"'Gap': 3"),
    ],
)
def test_arguments_that_can_not_be_are_told(given, message):
    with pytest.raises(ArgumentError, match=message):
        HyperHyperModel(**given)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"model": 3}, r"model must be a keras.Model, but got 3"),
        ({"learning_rate": (0, 1)}, r"learning_rate must be \(lowest, highest\).*\(0, 1\)"),
        ({"optimizers": ["adam", "nonsense"]}, r"optimizers has 'nonsense'"),
        ({"batch_sizes": [0]}, r"batch_sizes: each .*0"),
        ({"batch_sizes": []}, r"batch_sizes must be a list"),
        ({"loss": "nonsense"}, r"loss 'nonsense' is not a loss"),
        ({"keep_weights": "yes"}, r"keep_weights must be True or False"),
        ({"model": Subclassed(), "loss": "mse", "keep_weights": True}, r"has no weights"),
    ],
)
def test_a_fixed_models_arguments_are_checked(given, message):
    with pytest.raises(ArgumentError, match=message):
        FixedModel(**{"model": regression(), **given})


def compiled(model: keras.Model, loss: Any = "mse") -> Any:
    model.compile(loss=loss)
    return model


def ending_in(units: int, loss: Any = "mse", **more: Any) -> Any:
    node = keras.Input((3,))
    return compiled(keras.Model(node, keras.layers.Dense(units, **more)(node)), loss)


def wide() -> Any:
    node = keras.Input((5,))
    return compiled(keras.Model(node, keras.layers.Dense(1)(node)))


def dictionary() -> Any:
    node = keras.Input((3,))
    return compiled(keras.Model(node, {"a": keras.layers.Dense(1)(node)}))


def two_inputs() -> Any:
    nodes = [keras.Input((2,)), keras.Input((2,))]
    return compiled(keras.Model(nodes, keras.layers.Dense(1)(keras.layers.add(nodes))))


@pytest.mark.parametrize(
    ("build", "label", "message"),
    [
        (lambda hp: 3, "y", r"must return a keras.Model, but got 3"),
        (lambda hp: regression(compiled=False), "y", r"'fixed' is not compiled"),
        (lambda hp: wide(), "y", r"takes rows of shape \(5,\), but the data's are \(3,\)"),
        (lambda hp: two_inputs(), "y", r"the model has 2 inputs, but .* 3 columns"),
        (
            lambda hp: ending_in(3),
            "y",
            r"output 'dense' has rows of shape \(3,\), but the labels \(y\) are rows of .*\(1,\)",
        ),
        (
            lambda hp: ending_in(3, "categorical_crossentropy"),
            "three",
            r"for class numbers: sparse_categorical_crossentropy",
        ),
        (
            lambda hp: ending_in(2, "sparse_categorical_crossentropy"),
            "three",
            r"'three' holds the class 2, but .* has 2 classes",
        ),
        (lambda hp: dictionary(), "y", r"gives a dict of outputs"),
        (lambda hp: compiled(OwnStep()), "y", r"OwnStep.train_step can't be used"),
        (lambda hp: compiled(Unwritable(len)), "y", r"Unwritable has no get_config"),
        (lambda hp: with_customs(hp), "y", r"Could not locate .*custom_objects"),
    ],
)
def test_a_network_that_can_not_be_trained_is_told_before_any_work(
    tmp_path, frame, build, label, message
):
    made = searcher(tmp_path, build)
    with pytest.raises(ArgumentError, match=message):
        made.fit(frame[FEATURES], frame[label], epochs=1, verbose=0)
    assert not LocalStore(tmp_path).list("data")


def test_metrics_are_for_compile(tmp_path, frame):
    made = HyperHyperModel(hypermodel=small)
    made.resource_bind(store=LocalStore(tmp_path), evaluation_metric="mae")
    with pytest.raises(ArgumentError, match=r"evaluation_metric=\['mae'\] is for heads"):
        made.fit(frame[FEATURES], frame["three"], epochs=1, verbose=0)


def test_a_hyperparameter_must_not_change_an_output():
    def build(hp: Any) -> keras.Model:
        return ending_in(hp.Int("units", 3, 20), "sparse_categorical_crossentropy")

    space = OwnSpace(source_of(build), [(3,)], ["float32"], {})
    hp = keras_tuner.HyperParameters()
    space.build(hp)
    hp.values["units"] = 7
    with pytest.raises(TrialError, match=r"outputs of the first, \[\(3,\)\], .*\[\(7,\)\]"):
        space.build(hp)


def test_a_batch_size_must_be_a_number_of_rows(tmp_path, frame):
    def build(hp: Any) -> keras.Model:
        hp.Choice("batch_size", [0.5])
        return regression()

    with pytest.raises(SearchError, match=r"'batch_size' must be a whole number from 1.*0\.5"):
        searcher(tmp_path, build).fit(frame[FEATURES], frame["y"], epochs=1, verbose=0)


@pytest.mark.parametrize(
    ("label", "weights", "message"),
    [
        ("y", {0: 1.0, 1: 2.0}, "'y' holds other values"),
        ("three", {0: 1.0, 7: 2.0}, "has the class 7, but 'three' has the classes 0, 1, 2"),
    ],
)
def test_classes_that_are_weighed_must_be_there(tmp_path, frame, label, weights, message):
    made = searcher(tmp_path, small)
    with pytest.raises(ArgumentError, match=message):
        made.fit(frame[FEATURES], frame[label], epochs=1, class_weight=weights, verbose=0)


@pytest.mark.parametrize("separate", [False, True], ids=["one column", "a column a class"])
def test_classes_of_one_hot_labels_can_be_weighed(tmp_path, frame, separate):
    def classifier(hp):
        model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(3, "softmax")])
        model.compile("sgd", "categorical_crossentropy")
        return model

    one_hot = np.eye(3, dtype="float32")[frame["three"]]
    losses = []
    for weights in (None, {0: 0.0, 1: 0.0, 2: 0.0}):
        made = searcher(tmp_path / str(weights), classifier)
        labels = pd.DataFrame(one_hot, columns=list("klm")) if separate else one_hot
        made.fit(frame[FEATURES], labels, epochs=1, class_weight=weights, verbose=0)
        losses.append(made.result.best_trial.history["loss"][0])
    assert losses[0] > 0
    assert losses[1] == 0
    off = one_hot + 1
    with pytest.raises(ArgumentError, match=r"classes 0, 1, 2 … or one-hot, but .* other values"):
        searcher(tmp_path, classifier).fit(frame[FEATURES], off, epochs=1, class_weight={0: 2.0})


def test_classes_of_two_outputs_can_not_be_weighed(tmp_path, frame):
    labels = [frame["y"], frame["binary"]]
    with pytest.raises(ArgumentError, match="class_weight is for a single output"):
        searcher(tmp_path, Tuned()).fit(frame[FEATURES], labels, epochs=1, class_weight={0: 2.0})
