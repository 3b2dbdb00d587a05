from __future__ import annotations

import os
import subprocess
import sys

import keras
import pytest
import tensorflow as tf

from cerebros_spark.core.errors import ArgumentError
from cerebros_spark.training.keras import tensorflow_runtime


@pytest.fixture
def grown(monkeypatch) -> list[str]:
    """A machine with one visible GPU; the devices with growing memory."""
    found: list[str] = []
    for name in ("CUDA_VISIBLE_DEVICES", "CUDA_DEVICE_ORDER"):
        monkeypatch.setenv(name, "")  # put back afterwards
        monkeypatch.delenv(name)
    monkeypatch.setattr(tensorflow_runtime, "visible_gpus", None)
    monkeypatch.setattr(tf.config, "list_physical_devices", lambda kind: [f"the {kind}"])
    grow = lambda device, on: found.append(device) if on else None  # noqa: E731
    monkeypatch.setattr(tf.config.experimental, "set_memory_growth", grow)
    for name in ("intra", "inter"):
        setter = f"set_{name}_op_parallelism_threads"
        monkeypatch.setattr(tf.config.threading, setter, lambda threads: None)
    return found


def test_a_process_sees_only_its_gpus(grown):
    tensorflow_runtime.configure(1, ["2", "5"], False)
    assert os.environ["CUDA_VISIBLE_DEVICES"] == "2,5"
    # Otherwise CUDA would number by speed what nvidia-smi numbers by place.
    assert os.environ["CUDA_DEVICE_ORDER"] == "PCI_BUS_ID"
    assert grown == ["the GPU"]


def test_without_assigned_gpus_visibility_does_not_change(grown):
    tensorflow_runtime.configure(1, None, False)
    assert "CUDA_VISIBLE_DEVICES" not in os.environ
    assert "CUDA_DEVICE_ORDER" not in os.environ


def test_a_process_that_cannot_change_its_gpu_warns(grown, caplog):
    tensorflow_runtime.configure(1, ["1"], False)
    tensorflow_runtime.configure(1, ["1"], False)
    assert not caplog.records
    tensorflow_runtime.configure(1, ["0"], False)
    assert os.environ["CUDA_VISIBLE_DEVICES"] == "1"
    assert "has used GPU 1 since an earlier task and cannot change to GPU 0" in caplog.text
    assert "spark.python.worker.reuse=false" in caplog.text


DEFERRED = """
import sys
from cerebros_spark.training.keras.tensorflow_runtime import configure, load_tensorflow
configure(3, None, True, 2, defer=True)
print("tensorflow" in sys.modules)
load_tensorflow(owns_process=True)
print(*(name in sys.modules for name in ("matplotlib", "scipy", "sklearn")))
import sklearn.base
import tensorflow as tf
threading = tf.config.threading
print(threading.get_intra_op_parallelism_threads(), threading.get_inter_op_parallelism_threads())
configure(1, None, False, 1, defer=True)
print(threading.get_intra_op_parallelism_threads())
"""


def test_a_process_of_our_own_loads_tensorflow_without_unused_packages_and_with_its_settings():
    command = [sys.executable, "-c", DEFERRED]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "False", "False", "False", "3", "6", "1"]


OTHER_BACKEND = """
import importlib, sys
from cerebros_spark.core.errors import ArgumentError
calls = [
    lambda: getattr(importlib.import_module("nas"), "HyperHyperModel"),
    lambda: importlib.import_module("cerebros_spark").LocalBackend().check(None),
    lambda: importlib.import_module("cerebros_spark.training.base").create_trainer("keras"),
]
for call in calls:
    try:
        call()
    except ArgumentError as error:
        print(error)
print("tensorflow" in sys.modules, "keras" in sys.modules)
"""


@pytest.mark.parametrize("backend", ["jax", "torch"])
def test_another_backend_of_keras_is_refused_at_once(backend):
    done = subprocess.run(
        [sys.executable, "-c", OTHER_BACKEND],
        env={**os.environ, "KERAS_BACKEND": backend},
        capture_output=True,
        text=True,
        check=True,
    )
    *lines, loaded = done.stdout.splitlines()
    assert loaded == "False False"
    assert len(lines) == 3
    for line in lines:
        assert line.startswith("the Keras trainer needs the TensorFlow backend, but Keras is on")
        assert f"{backend!r} here: unset KERAS_BACKEND" in line


def test_keras_that_was_imported_on_another_backend_is_refused(monkeypatch):
    monkeypatch.setattr(keras.backend, "backend", lambda: "jax")
    with pytest.raises(ArgumentError, match="Keras is on 'jax' here"):
        tensorflow_runtime.load_tensorflow()
