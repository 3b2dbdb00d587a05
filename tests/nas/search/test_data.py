"""What a search is given: arrays and frames, classes, rows that validate, prepared data."""

from __future__ import annotations

import json

import autokeras as ak
import numpy as np
import pandas as pd
import pytest

from cerebros_spark import LocalBackend, LocalStore
from cerebros_spark.core.errors import DataError
from tests.nas.small_searches import FEATURES, ROWS, columns, search, table

pytestmark = pytest.mark.usefixtures("eager_training")


@pytest.fixture(scope="module")
def frame() -> pd.DataFrame:
    return table()


# Rows that validate ----------------------------------------------------------------------


def test_validation_data_validates(frame, tmp_path):
    late, early = frame[frame["late"]], frame[~frame["late"]]
    hypermodel = search(tmp_path, max_trials=1)
    result = hypermodel.fit(
        early[FEATURES].to_numpy(), early["y"].to_numpy(),
        validation_data=(late[FEATURES].to_numpy(), late["y"].to_numpy()),
        epochs=1, verbose=0,
    )  # fmt: skip
    values = hypermodel.evaluate(late[FEATURES].to_numpy(), late["y"].to_numpy())
    assert values[0] == pytest.approx(result.best_trial.score, rel=1e-5)


def test_validation_split_decides_over_the_binding(frame, tmp_path):
    hypermodel = search(tmp_path, max_trials=1, bind={"validation": 0.2})
    hypermodel.fit(frame[FEATURES], frame["y"], epochs=1, verbose=0, validation_split=0.5)
    (key,) = [k for k in LocalStore(tmp_path).list("data") if k.endswith("manifest.json")]
    rows = json.loads(LocalStore(tmp_path).read(key))
    assert sum(shard["rows"] for shard in rows["validation"]) == ROWS // 2


# Arrays, frames and classes --------------------------------------------------------------


def test_numpy_arrays_need_no_column_names(frame, tmp_path):
    x, y = frame[FEATURES].to_numpy(), frame["y"].to_numpy()
    hypermodel = search(tmp_path, max_trials=1)
    result = hypermodel.fit(x, y, epochs=1, verbose=0)
    assert hypermodel.predict(x).shape == (ROWS, 1)
    assert result.get_output_columns() == ["target__output"]
    # Not as many rows of three as fit into it.
    for wrong in (np.hstack([x, x]), x[:, :2]):
        for call in (hypermodel.predict, lambda each: hypermodel.evaluate(each, y)):
            with pytest.raises(DataError, match=r"features must have 3 values per row, but got"):
                call(wrong)
    # Keras would compare each prediction with all of them.
    with pytest.raises(DataError, match="must have 1 values per row, but got 3"):
        hypermodel.evaluate(x, x)


def test_a_frame_with_numbers_for_names_is_fine(tmp_path, frame):
    numbered = pd.DataFrame(frame[FEATURES].to_numpy())
    hypermodel = search(tmp_path, max_trials=1)
    hypermodel.fit(numbered, frame["y"], epochs=1, verbose=0)
    assert hypermodel.predict(numbered).shape == (len(frame), 1)


def test_several_inputs_and_outputs(frame, tmp_path):
    hypermodel = search(
        tmp_path,
        inputs=[ak.Input(), ak.Input()],
        outputs=[ak.RegressionHead(), ak.ClassificationHead()],
        max_trials=1,
        bind={
            "feature_columns": [["a", "b"], ["c"]],
            "label_columns": [["y"], ["three"]],
            "validation": "late",
            "backend": LocalBackend(2),
        },
    )
    result = hypermodel.fit(frame, epochs=2, verbose=0)
    regression, classes = hypermodel.predict(frame)
    assert regression.shape == (ROWS, 1)
    assert classes.shape == (ROWS, 3)
    np.testing.assert_allclose(classes.sum(axis=1), 1, rtol=1e-5)
    late = frame[frame["late"]]
    values = hypermodel.evaluate(late, return_dict=True)
    assert values["loss"] == pytest.approx(result.best_trial.score, rel=1e-5)
    best = {
        name: values[result.best_trial.best_epoch]
        for name, values in result.get_best_model_history().items()
        if name.startswith("val_")
    }
    assert {f"val_{name}": pytest.approx(value, rel=1e-5) for name, value in values.items()} == best
    by_column = hypermodel.predict([frame[name].to_numpy() for name in FEATURES])
    np.testing.assert_allclose(by_column[0], regression, rtol=1e-5)


def test_arrays_for_several_inputs_and_outputs(frame, tmp_path):
    x = [frame[["a", "b"]].to_numpy(), frame[["c"]].to_numpy()]
    y = [frame["y"].to_numpy(), frame["three"].to_numpy()]
    hypermodel = search(
        tmp_path,
        inputs=[ak.Input(), ak.Input()],
        outputs=[ak.RegressionHead(), ak.ClassificationHead()],
        max_trials=1,
    )
    result = hypermodel.fit(x, y, epochs=1, verbose=0)
    assert result.get_output_columns() == ["target_0__output", "target_1__output"]
    shapes = [output.shape for output in hypermodel.predict(x)]
    assert shapes == [(ROWS, 1), (ROWS, 3)]
    assert hypermodel.evaluate(x, y, return_dict=True)["loss"] > 0


@pytest.mark.parametrize("kind", ["binary", "three", "one-hot"])
def test_classification(frame, tmp_path, kind):
    x = frame[FEATURES].to_numpy()
    y = np.eye(3)[frame["three"]] if kind == "one-hot" else frame[kind].to_numpy()
    hypermodel = search(
        tmp_path, outputs=ak.ClassificationHead(), max_trials=1, objective="val_accuracy"
    )
    result = hypermodel.fit(x, y, epochs=6, batch_size=8, verbose=0)
    probabilities = hypermodel.predict(x)
    if kind == "binary":
        assert probabilities.shape == (ROWS, 1)
        right = (probabilities[:, 0] > 0.5) == y
    else:
        assert probabilities.shape == (ROWS, 3)
        np.testing.assert_allclose(probabilities.sum(axis=1), 1, rtol=1e-5)
        right = probabilities.argmax(axis=1) == frame["three"].to_numpy()
    values = hypermodel.evaluate(x, y, return_dict=True)
    assert values["accuracy"] == pytest.approx(right.mean(), abs=1e-6)
    assert values["accuracy"] > 0.5
    assert result.best_trial.score == max(result.get_best_model_history()["val_accuracy"])


def test_class_indices_in_a_column_of_width_one_are_class_indices(tmp_path, frame):
    labels = frame[["binary"]].to_numpy()
    hypermodel = search(tmp_path, outputs=ak.ClassificationHead(), max_trials=1)
    result = hypermodel.fit(frame[FEATURES].to_numpy(), labels, epochs=1, verbose=0)
    assert result.best_model.layers[-1].activation.__name__ == "sigmoid"
    with pytest.raises(DataError, match="holds only the class 0"):
        hypermodel.fit(frame[FEATURES].to_numpy(), labels * 0, epochs=1, verbose=0)


def test_vectors_that_are_not_one_hot_are_refused(tmp_path, frame):
    vectors = np.eye(3)[frame["three"]]
    vectors[:5] *= 2
    hypermodel = search(tmp_path, outputs=ak.ClassificationHead(), max_trials=1)
    with pytest.raises(DataError, match=r"'target' has something other than one 1 .* in 5 rows"):
        hypermodel.fit(frame[FEATURES].to_numpy(), vectors, epochs=1, verbose=0)
    assert hypermodel._resources.store.list("") == []


# Data that was prepared before -----------------------------------------------------------


def test_data_that_was_prepared_once_serves_again(frame, tmp_path):
    first = search(tmp_path, max_trials=1, bind=columns())
    score = first.fit(frame, epochs=1, verbose=0, reproducible=True).best_trial.score
    predicted = first.predict(frame)
    second = search(tmp_path, max_trials=1, bind=columns(), overwrite=True)
    again = second.fit_on_prepared_data(epochs=1, verbose=0, reproducible=True)
    assert again.best_trial.score == score
    np.testing.assert_array_equal(second.predict(frame), predicted)
    unbound = search(tmp_path, max_trials=1, overwrite=True)
    fingerprint = LocalStore(tmp_path).list("data")[0].split("/")[1]
    unbound.fit_on_prepared_data(fingerprint, epochs=1, verbose=0)
    assert unbound.result.get_output_columns() == ["y__output"]


def test_prepared_data_that_does_not_fit_is_refused(frame, tmp_path):
    hypermodel = search(tmp_path, max_trials=1, bind=columns(backend=LocalBackend(2)))
    with pytest.raises(DataError, match="0 were found"):
        hypermodel.fit_on_prepared_data(epochs=1)
    hypermodel.fit(frame, epochs=1, verbose=0)
    with pytest.raises(DataError, match=r"data='nothing'.*0 were found; there are: [0-9a-f]{32}"):
        hypermodel.fit_on_prepared_data("nothing", epochs=1)
    more = search(tmp_path, max_trials=1, bind=columns(backend=LocalBackend(3)))
    with pytest.raises(DataError, match="2 partitions, but the backend has 3 workers"):
        more.fit_on_prepared_data(epochs=1)
