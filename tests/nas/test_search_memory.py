from __future__ import annotations

import gc
import types

import keras
from keras.src.backend.common import global_state
from small_searches import columns, table

from cerebros_spark import LocalBackend, LocalStore
from nas import HyperHyperModel


def network(hp):
    layers = [keras.Input((3,)), keras.layers.Dense(hp.Int("units", 1, 8)), keras.layers.Dense(1)]
    model = keras.Sequential(layers)
    model.compile("sgd", "mse")
    return model


def graphs() -> int:
    return sum(type(each).__name__ == "FuncGraph" for each in gc.get_objects())


def test_networks_of_trials_that_have_ended_are_let_go(tmp_path, monkeypatch):
    # Keras looks for circles when a network is built; Spark's workers build none.
    monkeypatch.setattr(global_state, "gc", types.SimpleNamespace(collect=lambda: None))
    made = HyperHyperModel(hypermodel=network, max_trials=4, seed=0)
    backend = LocalBackend(num_workers=1)
    store = LocalStore(tmp_path)
    made.resource_bind(**columns(backend=backend, store=store, max_concurrent_trials=1))
    gc.collect()
    before = graphs()
    gc.disable()  # the worker must not rely on when Python looks for circles
    try:
        made.fit(table(), epochs=1, verbose=0)
        left = graphs() - before
    finally:
        gc.enable()
    # The last trial's, the loops of training and of validation; and the one that all metrics are
    # taken in.
    assert left <= 3
