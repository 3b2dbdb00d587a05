"""Searches on raw tables: every door, streaming, fused training, resuming, replay."""

from __future__ import annotations

import autokeras as ak
import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from cerebros_spark import LocalBackend, LocalStore
from cerebros_spark.core.errors import ArgumentError, DataError
from cerebros_spark.engine.replay import Replay
from cerebros_spark.runs.artifacts import read_spec
from nas import HyperHyperModel, ModelSelectionResult
from nas.search import fusion
from tests.nas.small_searches import small_space
from tests.nas.tables import raw_table, to_inputs
from tests.simulated_keras import EAGER, SIMULATED, TRACED, keras_trained_by

# Most tests are about columns, classes and rows, not about what a network learns of them.
pytestmark = pytest.mark.usefixtures("simulated_training")

# Without columns whose embeddings Keras must train.
FUSABLE = ["number", "color", "answer", "at", "flag", "kind of thing", "y"]
SMALL = small_space(learning_rate=0.01)


def search(folder, head=None, trials=2, **options) -> HyperHyperModel:
    hypermodel = HyperHyperModel(
        ak.StructuredDataInput(),
        head or ak.ClassificationHead(),
        project_name="raw",
        max_trials=trials,
        seed=3,
        space=SMALL,
    )
    hypermodel.resource_bind(**{"store": LocalStore(folder), "backend": LocalBackend(1), **options})
    return hypermodel


def fit(hypermodel: HyperHyperModel, frame, y="y", **options) -> ModelSelectionResult:
    defaults = {"epochs": 2, "ensemble_size": 1, "verbose": 0, "reproducible": True}
    return hypermodel.fit(frame, y, **{**defaults, **options})


@pytest.fixture(scope="module")
def searched(simulated_training, tmp_path_factory):
    """A search of networks that are trained as users have it."""
    frame = raw_table()
    hypermodel = search(tmp_path_factory.mktemp("searched"))
    with keras_trained_by(TRACED, afterwards=SIMULATED):
        return hypermodel, fit(hypermodel, frame), frame


def test_a_raw_table_in_one_call(searched):
    hypermodel, result, frame = searched
    assert result.leaderboard()["status"].eq("completed").all()
    assert result.classes == ["bad", "good"]
    predicted = hypermodel.predict(frame)
    assert predicted.shape == (240, 1)
    metrics = hypermodel.evaluate(frame, return_dict=True)
    assert np.isfinite(metrics["loss"])


def test_figures_and_importance_of_columns(searched):
    _, result, frame = searched
    board = result.feature_importance(frame, "y", repeats=1, rows=50)
    assert set(board["feature"]) == {column.name for column in result.table.columns}
    for figure in (
        result.plot_importance(frame, repeats=1, rows=50),
        result.plot_trials(),
        result.plot_history(),
    ):
        assert figure.axes
    with pytest.raises(ArgumentError, match="has no metric 'mae'; it has: loss"):
        result.plot_history(metric="mae")


def test_the_exported_model_takes_the_raw_columns(searched, tmp_path):
    import keras

    hypermodel, result, frame = searched
    new = frame.head(50).copy()
    new["color"] = ["never seen", None, "", "青", "red"] * 10
    new.loc[3:9, "number"] = np.nan
    new.loc[5:8, "at"] = pd.NaT
    hypermodel.export_model().save(tmp_path / "model.keras")
    model = keras.models.load_model(tmp_path / "model.keras")
    predicted = np.asarray(model(to_inputs(new, result.table.columns)))
    np.testing.assert_allclose(predicted, hypermodel.predict(new), atol=1e-6)
    names = model.get_layer("classes").get_layer("names").get_vocabulary()[1:]
    assert names == result.classes
    encoded = hypermodel.export_model(raw=False)
    assert encoded.input_shape == (None, result.table.matrix.width)


def test_arrow_tables_and_labels_apart_give_the_same(searched, tmp_path, traced_training):
    _, result, frame = searched
    expected = result.trials[0].score
    table = pa.Table.from_pandas(frame, preserve_index=False)
    bound = search(tmp_path / "bound", trials=1, label_columns=["y"])
    for hypermodel, arguments in (
        (search(tmp_path / "arrow", trials=1), (table, "y")),
        (search(tmp_path / "apart", trials=1), (frame.drop(columns="y"), frame["y"])),
        (search(tmp_path / "array", trials=1), (frame.drop(columns="y"), frame["y"].to_numpy())),
        (bound, (frame, None)),
    ):
        score = fit(hypermodel, *arguments).best_trial.score
        assert score == pytest.approx(expected, rel=1e-4)


def test_new_rows_must_have_the_columns_and_types_of_training(searched):
    hypermodel, _, frame = searched
    with pytest.raises(DataError, match="there is no column 'color'"):
        hypermodel.predict(frame.drop(columns="color"))
    with pytest.raises(DataError, match=r"'number' has the type .*string.*held numbers"):
        hypermodel.predict(frame.assign(number="5"))
    with pytest.raises(DataError, match=r"'color' has the type .*held strings"):
        hypermodel.predict(frame.assign(color=5))
    with pytest.raises(DataError, match=r"'at' has the type .*held dates or times"):
        hypermodel.predict(frame.assign(at="2020-01-01"))
    with pytest.raises(DataError, match="'y' holds 'ugly', which is not among its 2 classes"):
        hypermodel.evaluate(frame.assign(y="ugly"))


def test_rows_without_a_label_are_left_out_with_a_warning(tmp_path, caplog):
    frame = raw_table()
    frame.loc[::10, "y"] = None
    hypermodel = search(tmp_path, trials=1)
    fit(hypermodel, frame, epochs=1)
    assert "24 of 240 rows have no label and are left out" in caplog.text
    with pytest.raises(DataError, match="'y' is missing in 24 rows"):
        hypermodel.evaluate(frame)


@pytest.mark.parametrize(
    ("values", "classes"),
    [
        ([-5, 7], [-5, 7]),
        ([True, False], [False, True]),
        ([2.0, 10.0], [2, 10]),
        (["ja", "nein", "vielleicht"], ["ja", "nein", "vielleicht"]),
    ],
    ids=["integers", "booleans", "floats", "three strings"],
)
def test_classes_of_any_type_keep_their_names(tmp_path, values, classes):
    frame = raw_table(120)[["number", "color"]]
    frame["y"] = [values[i % len(values)] for i in range(120)]
    hypermodel = search(tmp_path, trials=1)
    result = fit(hypermodel, frame, epochs=1)
    assert result.classes == classes
    width = 1 if len(classes) == 2 else len(classes)
    assert hypermodel.predict(frame).shape == (120, width)
    assert np.isfinite(hypermodel.evaluate(frame)[0])


def test_regressions_do_not_depend_on_the_unit_of_the_label(tmp_path, traced_training):
    frame = raw_table()
    target = frame["number"].fillna(5) + frame["count"]
    scores = []
    for scale in (1e-9, 1.0, 1e9):
        hypermodel = search(tmp_path / str(scale), ak.RegressionHead(), trials=1)
        result = fit(hypermodel, frame.assign(y=target * scale))
        scores.append(result.best_trial.score / scale**2)
    assert scores == pytest.approx([scores[1]] * 3, rel=1e-3)


# Splits ----------------------------------------------------------------------------------


def read_rows(result: ModelSelectionResult, store: LocalStore, column: str) -> list[np.ndarray]:
    """Return the stored values of a column in training and in validation rows."""
    from cerebros_spark.data.catalog import list_manifests
    from cerebros_spark.data.layout import default_layout
    from cerebros_spark.data.shards import open_shard

    (manifest,) = list_manifests(store)
    layout = default_layout(manifest, feature_columns=[column])
    parts = []
    for shards in (manifest.train, manifest.validation):
        opened = [open_shard(store, shard, manifest, layout, 2**20) for shard in shards]
        parts.append(np.concatenate([next(s.chunks(8, None)).x[0][:, 0] for s in opened]))
    return parts


def test_groups_are_not_split(tmp_path):
    frame = raw_table()
    frame["patient"] = np.arange(240) // 6
    frame["copy"] = frame["patient"] * 10.0
    hypermodel = search(tmp_path, trials=1, group_column="patient")
    result = fit(hypermodel, frame[["number", "copy", "patient", "y"]], epochs=1)
    assert [column.name for column in result.table.columns] == ["number", "copy"]
    train, validation = read_rows(result, LocalStore(tmp_path), "copy")
    assert not set(train) & set(validation)
    assert len(validation) == 48


def test_the_latest_rows_validate(tmp_path):
    frame = raw_table()
    hypermodel = search(tmp_path, trials=1, time_column="at")
    result = fit(hypermodel, frame[["number", "at", "y"]], epochs=1)
    train, validation = read_rows(result, LocalStore(tmp_path), "at")
    assert train.max() < validation.min()
    assert len(validation) == 48


def test_splits_that_contradict_each_other_are_refused(tmp_path):
    frame = raw_table()
    for options, message in (
        ({"group_column": "color", "time_column": "at"}, "use one of them"),
        ({"group_column": "color", "validation": "flag"}, "a validation column was given"),
    ):
        with pytest.raises(ArgumentError, match=message):
            fit(search(tmp_path, **options), frame)
    with pytest.raises(DataError, match="group_column 'color' is missing in"):
        fit(search(tmp_path, group_column="color"), frame)
    with pytest.raises(ArgumentError, match="is for tables"):
        fit(search(tmp_path, group_column="color"), np.zeros((9, 2)), np.zeros(9))


# The engine ------------------------------------------------------------------------------


def test_streamed_rows_give_the_same(searched, tmp_path, traced_training):
    _, result, frame = searched
    streamed = fit(search(tmp_path, shard_memory=2000), frame)
    # The order of rows differs where a shard is streamed.
    scores = [each.leaderboard().sort_values("trial")["score"] for each in (streamed, result)]
    np.testing.assert_allclose(*scores, rtol=0.2)


def test_networks_train_together_on_tables_without_embeddings(tmp_path, monkeypatch):
    monkeypatch.setattr(fusion, "MARGIN", 0.0)  # as if compiling took no time
    frame = raw_table()[FUSABLE]
    hypermodel = search(tmp_path, trials=2)
    result = fit(hypermodel, frame)
    specs = [read_spec(LocalStore(tmp_path), "raw", trial.trial_id) for trial in result.trials]
    assert {spec.trainer for spec in specs} == {"fused"}
    again = fit(search(tmp_path / "again", trials=2), frame)
    assert result.leaderboard()["score"].tolist() == again.leaderboard()["score"].tolist()
    np.testing.assert_array_equal(hypermodel.predict(frame), again.predict_arrays(frame))


def test_an_interrupted_search_is_resumed_and_replayed(tmp_path):
    import keras

    frame = raw_table()

    interruptions = [KeyboardInterrupt]

    class Interrupt(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            if interruptions:
                raise interruptions.pop()

    hypermodel = search(tmp_path, trials=2)
    with keras_trained_by(EAGER, afterwards=SIMULATED):
        with pytest.raises(KeyboardInterrupt):
            fit(hypermodel, frame, callbacks=[Interrupt()])
        result = fit(search(tmp_path, trials=2), frame, callbacks=[Interrupt()])
        replay = Replay(LocalStore(tmp_path), "raw")
        assert all(replay.compare(trial).equal for trial in replay.trials)
    assert result.leaderboard()["status"].eq("completed").all()


def test_a_result_is_saved_and_loaded_without_the_store(searched, tmp_path):
    hypermodel, result, frame = searched
    result.save(tmp_path / "saved")
    loaded = ModelSelectionResult.load(tmp_path / "saved")
    assert loaded.leaderboard().equals(result.leaderboard())
    assert loaded.get_history() == result.get_history()
    assert loaded.table == result.table
    np.testing.assert_array_equal(loaded.predict_arrays(frame), hypermodel.predict(frame))
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "file").touch()
    with pytest.raises(ArgumentError, match="is no saved result"):
        result.save(tmp_path / "other")


def test_three_workers_hold_all_rows(tmp_path):
    frame = raw_table()
    hypermodel = search(tmp_path, trials=1, backend=LocalBackend(num_workers=3))
    fit(hypermodel, frame, epochs=1)
    train, validation = read_rows(hypermodel.result, LocalStore(tmp_path), "count")
    assert len(train) + len(validation) == 240


def test_duplicated_rows_are_no_leak_unsaid(tmp_path, caplog):
    frame = pd.concat([raw_table(120)] * 2, ignore_index=True)
    fit(search(tmp_path, trials=1), frame, epochs=1)
    (message,) = [r.getMessage() for r in caplog.records if "equal to training rows" in r.message]
    assert float(message.split(" %")[0]) > 50
    caplog.clear()
    fit(search(tmp_path / "own", trials=1), raw_table(120), epochs=1)
    assert "equal to training rows" not in caplog.text


def test_graphs_with_structured_inputs_read_one_hot_tables(tmp_path):
    frame = raw_table()
    node = ak.StructuredDataInput(column_types={"count": "categorical"})
    output = ak.ClassificationHead()(ak.StructuredDataBlock(normalize=True)(node))
    hypermodel = HyperHyperModel(node, output, project_name="graph", max_trials=1, seed=0)
    hypermodel.resource_bind(store=LocalStore(tmp_path))
    result = fit(hypermodel, frame, epochs=1)
    by_name = {column.name: column for column in result.table.columns}
    assert by_name["count"].encoding == by_name["shop"].encoding == "one_hot"
    assert result.table.matrix.codes == ()
    model = hypermodel.export_model()
    predicted = np.asarray(model(to_inputs(frame, result.table.columns)))
    np.testing.assert_allclose(predicted, hypermodel.predict(frame), atol=1e-6)


def test_graphs_with_plain_inputs_read_numbers_alone(tmp_path):
    node = ak.Input()
    output = ak.ClassificationHead()(ak.DenseBlock()(node))
    hypermodel = HyperHyperModel(node, output, project_name="graph", max_trials=1, seed=0)
    hypermodel.resource_bind(store=LocalStore(tmp_path))
    with pytest.raises(DataError, match="the column 'color' has the type"):
        fit(hypermodel, raw_table()[["color", "y"]])
