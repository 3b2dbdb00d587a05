"""What a search says when its trials fail: the reasons, in a few lines."""

from __future__ import annotations

import logging
from typing import Any

import keras
import keras_tuner
import pytest
import tensorflow as tf

from cerebros_spark import LocalStore
from cerebros_spark.core.errors import SearchError
from cerebros_spark.runs.journal import read
from nas.reporting.run_view import read_run
from nas.trial.failures import summarize_error
from tests.nas.custom_searches import own_table, regression, searcher
from tests.nas.small_searches import FEATURES

pytestmark = pytest.mark.usefixtures("eager_training")


@pytest.fixture(scope="module")
def frame():
    return own_table()


def error_of(act: Any) -> Exception:
    with pytest.raises(Exception) as caught:  # noqa: PT011
        act()
    return caught.value


@tf.function
def gathered(x: tf.Tensor) -> tf.Tensor:
    return tf.gather(x, [[0, 7]], axis=0, name="looked_up")


@tf.function
def multiplied(x: tf.Tensor) -> tf.Tensor:
    return tf.matmul(x, tf.reshape(x, [-1, 1])[: tf.size(x) - 1])


def call_a_layer() -> Any:
    return keras.layers.Dense(2)(keras.ops.ones(()))


def deserialize() -> Any:
    config = {"module": None, "class_name": "Dense", "config": {"unit": 3}}
    return keras.saving.deserialize_keras_object({**config, "module": "keras.layers"})


@pytest.mark.parametrize(
    ("error", "wanted"),
    [
        (
            lambda: error_of(lambda: gathered(tf.ones([2, 2]))),
            "InvalidArgumentError: indices[0,1] = 7 is not in [0, 2)",
        ),
        (
            lambda: error_of(lambda: multiplied(tf.ones([2, 2]))),
            "ValueError: Dimensions must be equal",
        ),
        (
            lambda: error_of(lambda: tf.ones([2]) + tf.ones([3])),
            "InvalidArgumentError: ",
        ),
        (lambda: error_of(deserialize), "TypeError: Dense.__init__() missing 1 required"),
        (lambda: ValueError("first\nsecond"), "ValueError: first"),
        (lambda: ValueError(""), "ValueError"),
        (lambda: "no epoch had a finite val_loss", "no epoch had a finite val_loss"),
    ],
)
def test_a_reason_is_one_meaningful_line(error, wanted):
    reason = summarize_error(error())
    assert reason.startswith(wanted)
    assert "\n" not in reason
    assert "{{" not in reason
    assert len(reason) <= 320


def test_a_layers_reason_is_what_the_layer_says():
    error = error_of(call_a_layer)
    assert "Arguments received" in str(error) or "incompatible" in str(error)
    assert "Exception encountered" not in summarize_error(error)


def out_of_range(hp: Any) -> keras.Model:
    hp.Int("seen", 1, 99)
    node = keras.Input((3,))
    flat = keras.layers.Flatten()(keras.layers.Embedding(2, 2)(node))
    model = keras.Model(node, keras.layers.Dense(1)(flat))
    model.compile("sgd", "mse", jit_compile=False)
    return model


@pytest.mark.usefixtures("traced_training")
def test_trials_that_fail_for_one_reason_report_it_once(tmp_path, frame, caplog):
    hypermodel = searcher(tmp_path, out_of_range, max_trials=2)
    with caplog.at_level(logging.WARNING, "nas"), pytest.raises(SearchError) as caught:
        hypermodel.fit(10 * frame[FEATURES].abs(), frame["y"], epochs=1, verbose=0)
    first, rest = str(caught.value).splitlines()
    assert first.startswith("all 2 trials failed, trial-0000 first: InvalidArgumentError: indices[")
    assert rest.startswith("tracebacks are in the log, and in python -m cerebros_spark.journal ")
    assert rest.endswith(f"{tmp_path}/runs/own")
    assert caplog.text.count("Detected at node") == 1, "the traceback is in the log, once"
    ends = [each for each in read(LocalStore(tmp_path), "own") if each["kind"] == "end"]
    assert all("Detected at node" in each["error"] for each in ends), "the journal has all of it"
    for trial in read_run(LocalStore(tmp_path), "own").trials:
        assert "Detected at node" in trial.error


def test_different_reasons_are_counted(tmp_path, frame):
    def build(hp: Any) -> keras.Model:
        number = hp.Choice("number", [5, 0, 1, 2, 3, 4])
        if number == 5:
            return regression()
        if number in (1, 3):
            raise ValueError(f"no network for {number}\nand more")
        raise (KeyError("nope") if number == 2 else RuntimeError("out of luck"))

    values = keras_tuner.HyperParameters()
    values.Choice("number", [5, 0, 1, 2, 3, 4])
    hypermodel = searcher(tmp_path, build, max_trials=None, tuner="grid")
    hypermodel.tuner_bind("grid", hyperparameters=values, max_consecutive_failed_trials=5)
    with pytest.raises(SearchError) as caught:
        hypermodel.fit(frame[FEATURES], frame["y"], epochs=1, verbose=0)
    lines = str(caught.value).splitlines()
    assert lines[0] == "5 consecutive trials failed:"
    assert set(lines[1:3]) == {
        "2 trials: ValueError: no network for 1",
        "2 trials: RuntimeError: out of luck",
    }
    assert lines[3] == "1 more for 1 other reasons"
    assert lines[4].startswith("tracebacks are in the log")
    assert len(lines) == 5
