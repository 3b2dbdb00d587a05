from __future__ import annotations

import autokeras as ak
import keras
import numpy as np
import pytest

from cerebros_spark import LocalBackend
from cerebros_spark.core.errors import ArgumentError, DataError
from tests.nas.small_searches import FEATURES, columns, search, table

pytestmark = pytest.mark.usefixtures("eager_training")

FIT = {"epochs": 1, "verbose": 0}


def weighted_table():
    frame = table()
    # Rows of one kind count much more, so that a missing weight shows.
    return frame.assign(w=np.where(frame["a"] > 0, 5.0, 0.1))


@pytest.fixture
def frame():
    return weighted_table()


def late(frame):
    return frame[frame["late"]]


def validation_loss(result, rows, weights, label="y") -> float:
    x = rows[FEATURES].to_numpy("float32")
    values = result.best_model.evaluate(
        x if result.table is None else result.model_inputs(rows),
        rows[[label]].to_numpy(),
        sample_weight=weights,
        verbose=0,
        return_dict=True,
    )
    return values["loss"]


def test_a_column_of_weights_counts_in_training_and_validation(frame, tmp_path):
    hypermodel = search(tmp_path, max_trials=1, bind=columns(sample_weight_column="w"))
    result = hypermodel.fit(frame, **FIT)
    rows = late(frame)
    weights = rows["w"].to_numpy()
    wanted = validation_loss(result, rows, weights)
    assert result.best_trial.score == pytest.approx(wanted, rel=1e-5)
    assert wanted != pytest.approx(validation_loss(result, rows, None), rel=1e-2)
    plain = search(tmp_path / "plain", max_trials=1, bind=columns()).fit(frame, **FIT)
    differing = [
        not np.allclose(one, other)
        for one, other in zip(
            result.best_model.get_weights(), plain.best_model.get_weights(), strict=True
        )
    ]
    assert any(differing)


def test_a_spark_dataframe_has_its_weights_in_a_column(spark, frame, tmp_path):
    bind = columns(sample_weight_column="w")
    hypermodel = search(tmp_path, max_trials=1, bind=bind)
    result = hypermodel.fit(spark.createDataFrame(frame), **FIT)
    rows = late(frame)
    wanted = validation_loss(result, rows, rows["w"].to_numpy())
    assert result.best_trial.score == pytest.approx(wanted, rel=1e-5)
    other = search(tmp_path / "other", bind=columns())
    with pytest.raises(ArgumentError, match=r"resource_bind\(sample_weight_column"):
        other.fit(spark.createDataFrame(frame), sample_weight=np.ones(90), **FIT)


def test_evaluation_takes_weights_as_keras_does(frame, tmp_path):
    hypermodel = search(tmp_path, max_trials=1, bind=columns(sample_weight_column="w"))
    result = hypermodel.fit(frame, **FIT)
    rows = late(frame)
    weights = rows["w"].to_numpy()
    values = hypermodel.evaluate(rows, sample_weight=weights, return_dict=True)
    assert values["loss"] == pytest.approx(result.best_trial.score, rel=1e-5)
    plain = hypermodel.evaluate(rows, return_dict=True)
    assert plain["loss"] == pytest.approx(validation_loss(result, rows, None), rel=1e-5)


def test_features_that_are_not_named_leave_the_weights_out(frame, tmp_path):
    bind = {"label_columns": ["y"], "validation": "late", "sample_weight_column": "w"}
    result = search(tmp_path, max_trials=1, bind=bind).fit(
        frame[[*FEATURES, "y", "late", "w"]], **FIT
    )
    assert result.best_model.input_shape == (None, 3)


def test_arrays_of_weights_equal_a_column_of_them(frame, tmp_path):
    x, y, w = frame[FEATURES], frame["y"], frame["w"].to_numpy()
    train, rest = ~frame["late"], frame["late"]
    fitted = {}
    for name, weights, more in (
        ("both", w[train], (w[rest],)),
        ("training", w[train], ()),
        ("validation", None, (w[rest],)),
    ):
        hypermodel = search(tmp_path / name, max_trials=1)
        result = hypermodel.fit(
            x[train], y[train], sample_weight=weights,
            validation_data=(x[rest], y[rest], *more), **FIT,
        )  # fmt: skip
        given = more[0] if more else None
        wanted = validation_loss(result, late(frame), given)
        assert result.best_trial.score == pytest.approx(wanted, rel=1e-5)
        fitted[name] = result.best_model.get_weights()
    for one, other in zip(fitted["both"], fitted["training"], strict=True):
        assert np.allclose(one, other, rtol=1e-3, atol=1e-4)


def test_prepared_data_keeps_its_weights(frame, tmp_path):
    first = search(tmp_path, max_trials=1, bind=columns(sample_weight_column="w")).fit(frame, **FIT)
    again = search(tmp_path, max_trials=1, overwrite=True)
    assert again.fit_on_prepared_data(**FIT).best_trial.score == first.best_trial.score
    other = search(tmp_path, bind={"sample_weight_column": "v"}, overwrite=True)
    with pytest.raises(DataError, match=r"'v', but the data was prepared with the sample .* 'w'"):
        other.fit_on_prepared_data(**FIT)


@pytest.mark.parametrize(
    ("bind", "more", "error", "message"),
    [
        ({"sample_weight_column": "nosuch"}, {}, DataError, "no column 'nosuch'"),
        ({"sample_weight_column": "a"}, {}, ArgumentError, "the column 'a' is a feature"),
        ({"sample_weight_column": 3}, {}, ArgumentError, "must be the name of a column, but got 3"),
        (
            {"sample_weight_column": "w"},
            {"sample_weight": np.ones(90)},
            ArgumentError,
            "sample_weight was given, and sample_weight_column 'w' is bound",
        ),
        ({}, {"sample_weight": np.ones(7)}, ArgumentError, r"each of the 90 rows.*\(7,\)"),
        ({}, {"sample_weight": np.full(90, -2.0)}, DataError, "'sample_weight' has negative .*-2"),
        ({}, {"sample_weight": [np.ones(90)] * 2}, ArgumentError, "one array"),
        ({}, {"class_weight": {0: 1.0}}, ArgumentError, "is a RegressionHead"),
        ({}, {"class_weight": [1.0, 2.0]}, ArgumentError, "must be a dict"),
        ({}, {"class_weight": {"a": 1.0}}, ArgumentError, "a key of class_weight .* got 'a'"),
        ({}, {"class_weight": {0: -1.0}}, ArgumentError, r"class_weight\[0\].*got -1.0"),
    ],
)
def test_weights_that_cannot_be_used_are_refused(frame, tmp_path, bind, more, error, message):
    with pytest.raises(error, match=message):
        search(tmp_path, bind=columns(**bind)).fit(frame, **FIT, **more)
    assert not list(tmp_path.rglob("journal*"))


def test_class_weights_are_part_of_the_run(frame, tmp_path):
    def make_search(folder, **more):
        return search(
            folder, outputs=ak.ClassificationHead(), max_trials=1, bind=columns("three"), **more
        )

    plain = make_search(tmp_path / "plain").fit(frame, **FIT)
    weights = {0: 20.0, 1: 0.0}
    result = make_search(tmp_path / "weighted").fit(frame, class_weight=weights, **FIT)
    assert result.best_trial.score != plain.best_trial.score
    rows = late(frame)
    wanted = validation_loss(result, rows, None, "three")
    assert result.best_trial.score == pytest.approx(wanted, rel=1e-5)
    again = make_search(tmp_path / "weighted").fit(frame, class_weight=weights, **FIT)
    assert again.best_trial.score == result.best_trial.score
    with pytest.raises(ArgumentError, match=r"class_weight\.0 = 20\.0, and now it is 2\.0"):
        make_search(tmp_path / "weighted").fit(frame, class_weight={0: 2.0, 1: 0.0}, **FIT)
    with pytest.raises(ArgumentError, match="class_weight"):
        make_search(tmp_path / "weighted").fit(frame, **FIT)
    with pytest.raises(ArgumentError, match=r"the class 3, but .* has the classes 0 … 2"):
        make_search(tmp_path / "other").fit(frame, class_weight={3: 1.0}, **FIT)


def heads():
    return [ak.RegressionHead(), ak.ClassificationHead()]


def between(node, outputs):
    hidden = ak.DenseBlock(num_layers=1, num_units=4, dropout=0.0)(ak.Normalization()(node))
    return [node for head in outputs for node in head(hidden)]


def two_outputs(folder, *, graph=False, names=False, weights=(0.01, 3.0), **more):
    node, outputs = ak.Input(), heads()
    given = [head.name for head in outputs]
    chosen = dict(zip(given, weights, strict=True)) if names else weights
    return search(
        folder,
        inputs=node,
        outputs=between(node, outputs) if graph else outputs,
        max_trials=1,
        bind={**columns(), "label_columns": [["y"], ["binary"]]},
        loss_weights=chosen,
        **more,
    )


@pytest.mark.parametrize("graph", [False, True], ids=["networks", "graph"])
def test_loss_weights_weigh_the_outputs(frame, tmp_path, graph):
    result = two_outputs(tmp_path, graph=graph, names=graph).fit(frame, **FIT)
    history = result.get_best_model_history()
    single = [name for name in history if "head" in name and name.endswith("_loss")]
    single = [name for name in single if name.startswith("val_")]
    price, binary = sorted(single, key=lambda name: "classification" in name)
    wanted = 0.01 * history[price][0] + 3.0 * history[binary][0]
    assert history["val_loss"][0] == pytest.approx(wanted, rel=1e-4)
    rows = late(frame)
    model = result.best_model
    values = model.evaluate(
        rows[FEATURES].to_numpy("float32") if graph else result.model_inputs(rows),
        [rows[["y"]].to_numpy(), rows[["binary"]].to_numpy()],
        verbose=0,
        return_dict=True,
    )
    assert history["val_loss"][0] == pytest.approx(values["loss"], rel=1e-5)


def test_loss_weights_are_part_of_the_run(frame, tmp_path):
    first = two_outputs(tmp_path).fit(frame, **FIT)
    again = two_outputs(tmp_path, names=True).fit(frame, **FIT)
    assert again.best_trial.score == first.best_trial.score
    with pytest.raises(ArgumentError, match=r"loss_weights\[0\] = 0.01, and now it is 1.0"):
        two_outputs(tmp_path, weights=(1.0, 3.0)).fit(frame, **FIT)
    with pytest.raises(ArgumentError, match="class_weight is for a single output, but there are 2"):
        two_outputs(tmp_path).fit(frame, class_weight={0: 2.0}, **FIT)


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ([1.0], "a list of 2 numbers"),
        (2.0, "a list of 2 numbers"),
        ({"price": 1.0}, "a weight for each head .* but has price"),
        ([1.0, -1.0], "the loss weight of 'classification_head.*got -1.0"),
        ([1.0, float("nan")], "got nan"),
        ([0.0, 0.0], "0 for all heads"),
    ],
)
def test_loss_weights_that_cannot_be_used_are_refused(tmp_path, weights, message):
    with pytest.raises(ArgumentError, match=message):
        search(tmp_path, outputs=heads(), loss_weights=weights)


def test_max_model_size_holds_for_graphs(frame, tmp_path):
    node = ak.Input()
    hidden = ak.DenseBlock(num_layers=1, dropout=0.0)(node)

    def make_search(folder, **more):
        graph = {"inputs": node, "outputs": ak.RegressionHead()(hidden)}
        return search(folder, max_trials=5, bind=columns(), **graph, **more)

    board = make_search(tmp_path / "all").fit(frame, **FIT).leaderboard().set_index("trial")
    limit = int(board["parameters"].median())
    assert board["parameters"].max() > limit
    limited = (
        make_search(tmp_path / "limited", max_model_size=limit).fit(frame, **FIT).leaderboard()
    )
    fitting = set(limited["trial"][limited["status"] == "completed"])
    assert fitting == set(board.index[board["parameters"] <= limit])


def test_one_worker_with_weights_trains_as_keras_does(frame, tmp_path):
    """A whole search of one epoch, replayed by ``keras.Model.fit`` on the same rows in order."""
    from cerebros_spark.core.seeding import derive_seed, derive_unit_seed
    from cerebros_spark.core.types import StateRef
    from cerebros_spark.data.manifest import Manifest, manifest_key
    from cerebros_spark.data.shards import open_shard
    from cerebros_spark.runs.artifacts import read_spec, read_state
    from cerebros_spark.runs.journal import read
    from cerebros_spark.training.keras.checkpoint import StateVariables
    from cerebros_spark.training.keras.serialization import deserialize_model

    bind = columns("binary", sample_weight_column="w", backend=LocalBackend(1))
    hypermodel = search(tmp_path, outputs=ak.ClassificationHead(), max_trials=1, bind=bind)
    weights = {0: 0.5, 1: 4.0}
    result = hypermodel.fit(frame, class_weight=weights, batch_size=16, **FIT)
    store = hypermodel._resources.store
    records = read(store, "small")
    spec = read_spec(store, "small", "trial-0000")
    manifest = Manifest.from_json(store.read(manifest_key(records[0]["data"])).decode())
    shard = open_shard(store, manifest.train[0], manifest, result._layout, 2**20)
    seed = derive_seed(derive_unit_seed(spec.seed, spec.trial_id, 0, 0), "order")
    (chunk,) = shard.chunks(16, seed)
    x, y, w = (each[chunk.order] for each in (chunk.x[0], chunk.y[0], chunk.weights))
    first = next(record for record in records if record["kind"] == "trial")
    model: keras.Model = deserialize_model(spec.program)
    StateVariables(model).write(read_state(store, StateRef(**first["state"])))
    both = w * np.array([weights[int(each)] for each in y[:, 0]])
    history = model.fit(x, y, sample_weight=both, batch_size=16, shuffle=False, verbose=0).history
    assert result.get_best_model_history()["loss"][0] == pytest.approx(history["loss"][0], rel=1e-6)
    for got, wanted in zip(result.best_model.get_weights(), model.get_weights(), strict=True):
        np.testing.assert_allclose(got, wanted, rtol=1e-5, atol=1e-6)
