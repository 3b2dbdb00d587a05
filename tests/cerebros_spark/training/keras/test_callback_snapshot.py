"""Snapshots of callbacks in JSON's types."""

from __future__ import annotations

import json
import logging
import threading

import keras
import numpy as np
import pytest

from cerebros_spark.training.keras.callback_snapshot import (
    describe_callbacks,
    restore_snapshot,
    take_snapshot,
)

VALUES = [
    None,
    True,
    -0.0,
    "text",
    [1, [2.5, None]],
    (1, ("a", ())),
    {"a": (1, 2), 3: {None: [4]}},
    np.float32(0.1),
    np.arange(6, dtype="int16").reshape(2, 3),
]


class Holder(keras.callbacks.Callback):
    def __init__(self, value=None):
        super().__init__()
        self.value = value


class WithState(Holder):
    def get_state(self):
        return {"n": self.value + 1}

    def set_state(self, state):
        self.value = state["n"]


@pytest.mark.parametrize("value", VALUES, ids=lambda value: type(value).__name__)
def test_plain_attributes_are_restored_with_their_types(value):
    restored = Holder()
    restore_snapshot(restored, json.loads(json.dumps(take_snapshot(Holder(value)))))
    assert type(restored.value) is type(value)
    np.testing.assert_equal(restored.value, value)
    assert getattr(restored.value, "dtype", None) == getattr(value, "dtype", None)


def test_a_callback_may_save_its_own_state():
    restored = WithState(0)
    restore_snapshot(restored, take_snapshot(WithState(4)))
    assert restored.value == 5


def test_an_attribute_that_cannot_be_saved_is_a_warning(caplog):
    with caplog.at_level(logging.WARNING):
        assert "value" not in take_snapshot(Holder(threading.Lock()))
    assert "Holder.value is a lock and is not saved" in caplog.text


def test_callbacks_are_described_by_class_and_attributes():
    ((name, attributes),) = describe_callbacks([keras.callbacks.EarlyStopping("loss", patience=3)])
    assert name == "EarlyStopping"
    assert (attributes["monitor"], attributes["patience"]) == ("loss", 3)
    assert "_model" not in attributes
