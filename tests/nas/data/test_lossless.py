"""A search uses its columns without loss, or refuses them by name."""

from __future__ import annotations

import logging

import keras
import numpy as np
import pandas as pd
import pytest

from cerebros_spark import LocalBackend, LocalStore
from cerebros_spark.core.errors import ArgumentError, DataError
from nas import CerebrosRegressor, HyperHyperModel
from tests.nas.small_searches import search, small_space

pytestmark = pytest.mark.usefixtures("eager_training")

RNG = np.random.default_rng(0)
COUNTS = RNG.integers(0, 5, size=(80, 3))
TOTAL = COUNTS.sum(axis=1)


@pytest.fixture(scope="module")
def counted(tmp_path_factory):
    """A search fitted on integers only, and a frame of its features."""
    searcher = search(tmp_path_factory.mktemp("counted"), max_trials=1)
    frame = pd.DataFrame(COUNTS, columns=["p", "q", "r"])
    searcher.fit(frame, TOTAL, epochs=2, verbose=0)
    return searcher, frame


def by_keras(searcher: HyperHyperModel, x: np.ndarray) -> np.ndarray:
    columns = {name: x[:, i].astype("float64") for i, name in enumerate("pqr")}
    return np.asarray(searcher.export_model()(columns))


def test_fractions_count_after_training_on_integers(counted):
    searcher, frame = counted
    for x in (frame + 0.9, frame.astype("float64") + 0.25, frame.astype("Float64") + 0.5):
        outputs = searcher.predict(x)
        expected = by_keras(searcher, x.to_numpy("float64"))
        np.testing.assert_allclose(outputs, expected, rtol=1e-5, atol=1e-6)
        assert np.abs(outputs - searcher.predict(frame)).max() > 1e-3


def test_labels_with_fractions_count_after_training_on_integers(counted):
    searcher, frame = counted
    y = TOTAL + 0.9
    loss = searcher.evaluate(frame, y, return_dict=True)["loss"]
    assert loss == pytest.approx(np.square(searcher.predict(frame)[:, 0] - y).mean(), rel=1e-4)


def test_fractions_count_on_spark(counted, spark):
    searcher, frame = counted
    shifted = (frame + 0.9).assign(y=TOTAL + 0.9)
    kinds = "p double, q float, r decimal(9,2), target double"
    rows = [
        (p, q, r, y)
        for p, q, r, y in zip(
            *(shifted[c].tolist() for c in "pq"), [_decimal(v) for v in shifted["r"]],
            shifted["y"].tolist(), strict=True,
        )
    ]  # fmt: skip
    df = spark.createDataFrame(rows, kinds)
    outputs = [row["target__output"] for row in searcher.predict(df).collect()]
    expected = by_keras(searcher, shifted[["p", "q", "r"]].to_numpy())[:, 0]
    np.testing.assert_allclose(outputs, expected, rtol=1e-4, atol=1e-5)
    loss = searcher.evaluate(df, return_dict=True)["loss"]
    assert loss == pytest.approx(np.square(expected - shifted["y"]).mean(), rel=1e-4)


def _decimal(value: float):
    from decimal import Decimal

    return Decimal(f"{value:.2f}")


def test_class_indices_with_fractions_are_refused(tmp_path):
    import autokeras as ak

    searcher = search(tmp_path, outputs=ak.ClassificationHead(), max_trials=1)
    x = COUNTS.astype("float32")
    searcher.fit(x, TOTAL > 5, epochs=1, verbose=0)
    assert searcher.evaluate(x, (TOTAL > 5).astype("float64"))[0] > 0
    with pytest.raises(DataError, match=r"'target' holds 0.9, .* but takes integers"):
        searcher.evaluate(x, (TOTAL > 5) * 0.9)


def test_integer_inputs_refuse_fractions(tmp_path):
    def build(hp):
        model = keras.Sequential([
            keras.Input((1,), dtype="int32"), keras.layers.Embedding(9, 2),
            keras.layers.Flatten(), keras.layers.Dense(1),
        ])  # fmt: skip
        model.compile("adam", "mse")
        return model

    searcher = HyperHyperModel(hypermodel=build, max_trials=1, seed=0)
    searcher.resource_bind(store=LocalStore(tmp_path), backend=LocalBackend(1))
    y = COUNTS[:, 0].astype("float32")
    with pytest.raises(ArgumentError, match=r"takes integers \(int32\), but the column 'features'"):
        searcher.fit(COUNTS[:, :1] + 0.5, y, epochs=1, verbose=0)
    searcher.fit(COUNTS[:, :1], y, epochs=1, verbose=0)
    np.testing.assert_array_equal(
        searcher.predict(COUNTS[:5, :1].astype("float64")), searcher.predict(COUNTS[:5, :1])
    )
    for x, message in (
        (COUNTS[:5, :1] + 0.5, "'features' holds .* but takes integers"),
        (COUNTS[:5, :1] + 2**40, "beyond the range of int32"),
    ):
        with pytest.raises(DataError, match=message):
            searcher.predict(x)


# Rows as lists ---------------------------------------------------------------------------


def test_a_list_of_rows_is_an_array(counted):
    searcher, frame = counted
    for rows in (3, 5):
        x = frame.to_numpy()[:rows]
        np.testing.assert_array_equal(searcher.predict(x.tolist()), searcher.predict(x))
        metrics = searcher.evaluate(x.tolist(), TOTAL[:rows].tolist())
        assert metrics == pytest.approx(searcher.evaluate(x, TOTAL[:rows]))
    with pytest.raises(ArgumentError, match=r"which may be rows or columns"):
        searcher.predict(list(frame.to_numpy()[:3]))
    columns = searcher.predict([frame[name].to_numpy() for name in frame])
    np.testing.assert_array_equal(columns, searcher.predict(frame))


def test_lists_are_searched_like_arrays(tmp_path):
    histories = []
    for name, kind in (("lists", np.ndarray.tolist), ("arrays", np.asarray)):
        searcher = search(tmp_path / name, max_trials=1)
        result = searcher.fit(
            kind(COUNTS), kind(TOTAL), epochs=1, verbose=0,
            validation_data=(kind(COUNTS[:9]), kind(TOTAL[:9])), sample_weight=kind(TOTAL + 1.0),
        )  # fmt: skip
        histories.append(result.get_best_model_history())
    assert histories[0] == histories[1]


# Names -----------------------------------------------------------------------------------


def named_inputs(hp):
    i, j = keras.Input((3,), name="a"), keras.Input((3,), name="b")
    out = keras.layers.Add()([
        keras.layers.Dense(1, kernel_initializer="ones")(i),
        keras.layers.Dense(1, kernel_initializer="zeros")(j),
    ])  # fmt: skip
    model = keras.Model([i, j], out)
    model.compile(keras.optimizers.SGD(0.0), "mse")
    return model


def test_inputs_are_matched_by_name_or_refused(tmp_path):
    x = COUNTS.astype("float32")

    def fit(name, inputs):
        searcher = HyperHyperModel(hypermodel=named_inputs, max_trials=1, project_name=name, seed=0)
        searcher.resource_bind(store=LocalStore(tmp_path), backend=LocalBackend(1))
        return searcher, searcher.fit(inputs, TOTAL, epochs=1, verbose=0).best_trial.score

    searcher, score = fit("right", {"b": 100 * x, "a": x})
    assert score == 0
    assert searcher.predict({"b": 100 * x, "a": x})[:, 0] == pytest.approx(TOTAL)
    assert fit("listed", [x, 100 * x])[1] == 0
    for wrong in ({"b": x, "A": x}, {"A": x, "B": x}):
        with pytest.raises(ArgumentError, match=r"no column 'a'.* 'A'.* named like no input"):
            fit("wrong", wrong)
    with pytest.raises(DataError, match=r"no column 'a'. Did you mean 'A'"):
        searcher.predict({"b": x, "A": x})
    with pytest.raises(ArgumentError, match=r"two columns that are called '1'"):
        fit("twice", pd.DataFrame(x[:, :2], columns=[1, "1"]))


# float32 ---------------------------------------------------------------------------------


def large_columns() -> list[np.ndarray]:
    seconds = 1_700_000_000 + RNG.integers(0, 60, 80)
    near = 1e9 + RNG.normal(size=80)
    ids = 2**26 + RNG.permutation(160)[:80]
    return [seconds, seconds.astype("float64"), near, ids, 2**60 + RNG.permutation(160)[:80]]


def test_arrays_that_float32_can_not_hold_are_refused(tmp_path):
    for column in large_columns():
        searcher = search(tmp_path)
        with pytest.raises(
            DataError, match=r"the column 'features' varies by .* Subtract its mean"
        ):
            searcher.fit(column[:, None], TOTAL, epochs=1, verbose=0)
        with pytest.raises(DataError, match=r"the column 'target' varies by"):
            searcher.fit(COUNTS, column, epochs=1, verbose=0)
        with pytest.raises(ValueError, match=r"varies by"):
            CerebrosRegressor(max_trials=1, epochs=1).fit(COUNTS, column)
    assert list(tmp_path.iterdir()) == []
    # Constants, coarse numbers of great size, and rounding errors are none of these.
    columns = [np.full(80, 1e9), 1e9 * TOTAL, 1 / 3 + 1e-16 * TOTAL, 1_000_000.0 + TOTAL]
    searcher.fit(np.stack(columns, axis=1), TOTAL, epochs=1, verbose=0)


def test_tables_keep_what_float32_can_not_hold(tmp_path):
    frame = pd.DataFrame({f"t{i}": column for i, column in enumerate(large_columns())})
    searcher = search(tmp_path, max_trials=1)
    result = searcher.fit(frame, TOTAL, epochs=1, verbose=0)
    matrix = result.model_inputs(frame)
    for i, name in enumerate(frame):
        order = np.argsort(frame[name].to_numpy(), kind="stable")
        distinct = np.diff(frame[name].to_numpy()[order]) > 0
        assert ((np.diff(matrix[order, i]) > 0) == distinct).mean() > 0.95


def test_tables_of_spark_keep_what_float32_can_not_hold(tmp_path, spark):
    rows = [(1_700_000_000 + i % 60, [0.0, 1e9 + i / 40], float(i)) for i in range(80)]
    df = spark.createDataFrame(rows, "t long, v array<double>, y double").coalesce(1)
    bind = {"feature_columns": ["t", "v"], "label_columns": ["y"]}
    searcher = search(tmp_path, max_trials=1, bind=bind)
    result = searcher.fit(df, epochs=1, verbose=0)
    matrix = result.model_inputs(df.toPandas())
    assert len(np.unique(matrix[:, 0])) == 60
    assert len(np.unique(matrix[:, 2])) == 80


# Order -----------------------------------------------------------------------------------


def validation_rows(folder) -> list[float]:
    store = LocalStore(folder)
    keys = [k for k in store.list("data") if "/validation/" in k and k.endswith(".parquet")]
    paths = [store.address(key).removeprefix("file://") for key in keys]
    return sorted(pd.concat([pd.read_parquet(path) for path in paths])["target"])


def test_the_last_rows_validate_without_shuffle(tmp_path, caplog):
    t = np.arange(100.0)
    frame = pd.DataFrame({"t": t}, index=pd.date_range("2020-01-01", periods=100))
    for folder, more in (("drawn", {}), ("last", {"shuffle": False})):
        caplog.clear()
        searcher = search(tmp_path / folder, max_trials=1)
        searcher.fit(frame, t, epochs=1, verbose=0, validation_split=0.2, **more)
        warned = [r for r in caplog.records if r.levelno >= logging.WARNING]
        assert any("sorted by 'index'" in r.getMessage() for r in warned) == (folder == "drawn")
    assert validation_rows(tmp_path / "last") == t[80:].tolist()
    assert validation_rows(tmp_path / "drawn") != t[80:].tolist()


def test_spark_rows_have_no_order(tmp_path, spark, caplog):
    df = spark.range(40).selectExpr(
        "cast(id as double) x", "id % 2 y", "date_add(date'2020-01-01', cast(id as int)) day"
    )
    searcher = search(
        tmp_path, max_trials=1, bind={"feature_columns": ["x"], "label_columns": ["y"]}
    )
    with pytest.raises(ArgumentError, match=r"shuffle=False .* mark the validation rows"):
        searcher.fit(df, epochs=1, verbose=0, shuffle=False)
    searcher.fit(df, epochs=1, verbose=0)
    assert "sorted by 'day'" in caplog.text


# NumPy's integers and validation_data --------------------------------------------------


def test_numpys_integers_are_integers(tmp_path):
    two = np.int64(2)
    searcher = search(
        tmp_path, max_trials=two, seed=two, max_model_size=np.int32(10**6),
        bind={"backend": LocalBackend(np.int64(1)), "max_concurrent_trials": two},
    )  # fmt: skip
    searcher.tuner_bind("hyperband", min_epochs=np.int64(1), reduction_factor=two)
    result = searcher.fit(COUNTS, TOTAL, epochs=two, batch_size=np.uint16(16), verbose=0)
    assert len(result.trials) == 2
    plain = search(
        tmp_path, max_trials=2, seed=2, max_model_size=10**6,
        bind={"backend": LocalBackend(1), "max_concurrent_trials": 2},
    )  # fmt: skip
    plain.tuner_bind("hyperband", min_epochs=1, reduction_factor=2)
    same = plain.fit(COUNTS, TOTAL, epochs=2, batch_size=16, verbose=0)
    assert same.best_trial.score == result.best_trial.score
    CerebrosRegressor(
        max_trials=np.int64(1), epochs=two, batch_size=two, num_workers=two, space=small_space()
    ).fit(COUNTS, TOTAL)


def test_errors_in_validation_data_name_it(tmp_path):
    x = COUNTS.astype("float32")
    for validation_data, message in (
        ((x[:, :2], TOTAL), r"'features' have the shape \(2,\) in validation_data"),
        ((x[:1], TOTAL[:1]), "validation_data leaves 1 validation rows, fewer than the 2"),
        ((x[:0], TOTAL[:0]), "validation_data has no rows"),
        (x, "validation_data must be"),
    ):
        searcher = search(tmp_path, bind={"backend": LocalBackend(2)})
        with pytest.raises((ArgumentError, DataError), match=message):
            searcher.fit(x, TOTAL, validation_data=validation_data, epochs=1, verbose=0)
