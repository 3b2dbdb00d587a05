"""Exported models that take the raw columns of a table."""

from __future__ import annotations

import json
import subprocess
import sys

import keras
import numpy as np
import pandas as pd
import pyarrow as pa
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cerebros_spark.data.manifest import Layout
from cerebros_spark.data.table.arrow_table import ArrowTable
from cerebros_spark.data.table.schema import LabelClasses, TableSchema
from nas.data.frames import to_arrow, to_frame
from nas.data.new_rows import encode_rows
from nas.results.raw_model import build_encoder, build_raw_model
from tests.nas.random_tables import columns, others, to_input
from tests.nas.tables import raw_table, to_inputs


def learn(frame: pd.DataFrame, **column_types: str) -> TableSchema:
    table = ArrowTable.create(to_arrow(to_frame(frame), column_types), column_types)
    return table.learn(np.arange(len(frame)))


def encode(frame: pd.DataFrame, schema: TableSchema) -> np.ndarray:
    (matrix,) = encode_rows(frame, schema, [[column.name for column in schema.columns]])
    return matrix


def predict(model: keras.Model, frame: pd.DataFrame, schema: TableSchema) -> np.ndarray:
    # predict() would cast float64 to float32.
    return np.asarray(model(to_inputs(frame, schema.columns)))


def test_the_encoder_computes_what_the_shards_hold():
    frame = raw_table().drop(columns="y")
    schema = learn(frame)
    assert {type(column).__name__ for column in schema.columns} == {
        "NumberColumn",
        "CategoryColumn",
        "DatetimeColumn",
    }
    encoder = build_encoder(schema)
    np.testing.assert_allclose(predict(encoder, frame, schema), encode(frame, schema), atol=2e-6)


def test_unknown_and_missing_values_have_a_defined_encoding():
    frame = raw_table().drop(columns="y")
    schema = learn(frame)
    new = frame.head(4).copy()
    new["number"] = [np.nan, 1e30, -1e30, 5.0]
    new["color"] = ["never seen", None, "", "red"]
    new["answer"] = ["perhaps", "yes", None, "no"]
    new["shop"] = ["shop 999", None, "shop 1", "shop 2"]
    new["flag"] = pd.Series([None, True, False, True], dtype="boolean")
    new["at"] = [pd.NaT, pd.Timestamp("1960-01-01"), pd.NaT, pd.Timestamp("2200-01-01")]
    matrix = encode(new, schema)
    assert np.isfinite(matrix).all()
    new["flag"] = new["flag"].astype("float")
    np.testing.assert_allclose(predict(build_encoder(schema), new, schema), matrix, atol=2e-6)


def test_categories_in_hash_buckets_are_encoded_as_the_shards_hold_them(tmp_path):
    ids = [*range(10_000), *range(10_600)]
    frame = pd.DataFrame({"user": [f"user {i}" for i in ids], "number": ids, "x": np.sqrt(ids)})
    schema = learn(frame, user="categorical", number="categorical")
    assert all(column.buckets > 40 for column in schema.columns[:2])
    new = frame.iloc[9000::10].copy()
    new["number"] = new["number"].astype(float)
    new.iloc[:4, :2] = [["user 7", 2.5], [None, 77_000], ["日本語", np.nan], ["x" * 40, -1]]
    matrix = encode(new, schema)
    assert matrix[2, 1] > 10_001
    path = tmp_path / "encoder.keras"
    build_encoder(schema).save(path)
    encoder = keras.models.load_model(path)
    np.testing.assert_allclose(predict(encoder, new, schema), matrix, atol=2e-6)


def make_model(schema: TableSchema, classes: int) -> keras.Model:
    width = schema.matrix.width
    network = keras.Sequential(
        [keras.Input((width,)), keras.layers.Dense(classes, activation="softmax")]
    )
    names = tuple(column.name for column in schema.columns)
    return build_raw_model(network, schema, Layout((names,), (("y",),), ((width,),)))


ALONE = """
import json, sys
import numpy as np

class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("nas", "cerebros_spark", "pandas", "pyarrow", "sklearn"):
            raise ImportError(name)

sys.meta_path.insert(0, Refuse())
sys.path = [path for path in sys.path if path]
import keras
import tensorflow as tf

folder = sys.argv[1]
with np.load(folder + "/inputs.npz") as arrays:
    inputs = {name: arrays[name] for name in arrays.files}
inputs = {n: v.astype(object) if v.dtype.kind == "U" else v for n, v in inputs.items()}
model = keras.models.load_model(folder + "/model.keras")
predicted = np.asarray(model(inputs))
names = model.get_layer("classes").get_layer("names").get_vocabulary()[1:]
signature = tf.saved_model.load(folder + "/served").signatures["serving_default"]
shapes = signature.structured_input_signature[1]
served = signature(**{
    name: tf.constant(
        values.reshape(len(values), -1).tolist(), dtype=shapes[name].dtype
    )
    for name, values in zip(sorted(inputs), (inputs[n] for n in sorted(inputs)))
})
(served,) = served.values()
print(json.dumps({"predicted": predicted.tolist(), "served": served.numpy().tolist(),
                  "names": [str(name) for name in names]}))
"""


def test_keras_and_tensorflow_alone_predict_from_the_file_and_the_served_model(tmp_path):
    frame = raw_table(60).drop(columns=["y", "kind of thing"])
    schema = learn(frame)
    labels = (LabelClasses("y", "string", ("bad", "good", "ünknown")),)
    schema = TableSchema(schema.columns, labels)
    model = make_model(schema, 3)
    expected = predict(model, frame, schema)
    model.save(tmp_path / "model.keras")
    model.export(tmp_path / "served", verbose=False)
    inputs = to_inputs(frame, schema.columns)
    np.savez(
        tmp_path / "inputs.npz",
        **{n: v.astype(str) if v.dtype == object else v for n, v in inputs.items()},
    )
    done = subprocess.run(
        [sys.executable, "-c", ALONE, str(tmp_path)],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
        env={**_environment()},
    )
    assert done.returncode == 0, done.stderr[-2000:]
    found = json.loads(done.stdout.splitlines()[-1])
    assert found["names"] == ["bad", "good", "ünknown"]
    np.testing.assert_allclose(found["predicted"], expected, atol=1e-6)
    np.testing.assert_allclose(found["served"], expected, atol=1e-6)


def _environment() -> dict[str, str]:
    import os

    return {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}


def test_classes_can_be_predicted_by_name():
    frame = raw_table(60).drop(columns="y")
    schema = learn(frame)
    schema = TableSchema(schema.columns, (LabelClasses("y", "string", ("a", "b")),))
    model = make_model(schema, 2)
    named = keras.Model(model.input, model.get_layer("classes")(model.output)["class"])
    names = named(to_inputs(frame, schema.columns)).numpy()
    best = predict(model, frame, schema).argmax(axis=1)
    assert [each.decode() for each in names] == [("a", "b")[index] for index in best]


def test_names_that_tensorflow_cannot_use_work_as_keys(tmp_path):
    names = ["a b", "a.b", "a_b", "ä", "日本", "a/b", 'q"x', "a:b", "^x", "%", "", "A_B", "_x", "1"]
    rng = np.random.default_rng(0)
    frame = pd.DataFrame({name: rng.normal(size=30) for name in names})
    frame["a/b"] = rng.choice(["x", "y", "z"], 30)
    schema = learn(frame)
    encoder = build_encoder(schema)
    encoder.save(tmp_path / "model.keras")
    encoder.export(tmp_path / "served", verbose=False)
    loaded = keras.models.load_model(tmp_path / "model.keras")
    np.testing.assert_allclose(predict(loaded, frame, schema), encode(frame, schema), atol=2e-6)


# Tables of random types and values -------------------------------------------------------

COLUMNS = st.lists(columns(12), min_size=1, max_size=4)


@settings(max_examples=40, suppress_health_check=[HealthCheck.too_slow])
@given(COLUMNS, st.data())
def test_random_tables_are_encoded_alike(trained, data):
    arrays = {f"column {i}": values for i, values in enumerate(trained)}
    table = pa.table({**arrays, "safe": pa.array(range(2, 26, 2))})
    schema = ArrowTable.create(table).learn(np.arange(12))
    # New rows of the same types, in which categories are unknown and values beyond the range.
    new = {name: data.draw(others(values), name) for name, values in arrays.items()}
    for each in (table, pa.table({**new, "safe": pa.array(range(12))})):
        frame = each.to_pandas(types_mapper=pd.ArrowDtype)
        matrix = encode(frame, schema)
        assert np.isfinite(matrix).all()
        encoder = build_encoder(schema)
        inputs = {
            name: to_input(each.column(name), encoder.input[name].dtype)
            for name in (column.name for column in schema.columns)
        }
        np.testing.assert_allclose(np.asarray(encoder(inputs)), matrix, atol=1e-5)


def test_categories_that_are_marks_of_unknown_ones_elsewhere():
    frame = pd.DataFrame({"d": pd.Categorical([-1, 0, 3] * 20), "s": ["[UNK]", "a", "b"] * 20})
    schema = learn(frame)
    inputs = {"d": np.array([-1, 0, 3] * 20), "s": np.array(["[UNK]", "a", "b"] * 20, object)}
    np.testing.assert_array_equal(np.asarray(build_encoder(schema)(inputs)), encode(frame, schema))
    schema = TableSchema(schema.columns, (LabelClasses("y", "string", ("A", "[UNK]", "b")),))
    names = make_model(schema, 3).get_layer("classes").get_layer("names")
    assert names.get_vocabulary()[1:] == ["A", "[UNK]", "b"]


def test_columns_may_have_the_names_of_layers():
    frame = pd.DataFrame({"classes": range(60), "table": np.arange(60) / 7, "b": ["x", "y"] * 30})
    schema = learn(frame, classes="numeric")
    schema = TableSchema(schema.columns, (LabelClasses("y", "string", ("u", "v")),))
    model = make_model(schema, 2)
    assert set(model.input) == {"classes", "table", "b"}
    assert model.input["table"].name == "table"
    assert predict(model, frame, schema).shape == (60, 2)
