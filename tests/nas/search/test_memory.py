from __future__ import annotations

import gc
import types

import keras
from keras.src.backend.common import global_state

from cerebros_spark import LocalBackend, LocalStore
from nas import HyperHyperModel
from tests.nas.small_searches import columns, table


def network(hp):
    layers = [keras.Input((3,)), keras.layers.Dense(hp.Int("units", 1, 8)), keras.layers.Dense(1)]
    model = keras.Sequential(layers)
    model.compile("sgd", "mse")
    return model


def graphs() -> int:
    return sum(type(each).__name__ == "FuncGraph" for each in gc.get_objects())


def left_after(trials: int, folder) -> int:
    """Graphs that a search leaves behind."""
    hypermodel = HyperHyperModel(hypermodel=network, max_trials=trials, seed=0)
    backend = LocalBackend(num_workers=1)
    hypermodel.resource_bind(
        **columns(backend=backend, store=LocalStore(folder), max_concurrent_trials=1)
    )
    gc.collect()
    before = graphs()
    gc.disable()  # the worker must not rely on when Python looks for circles
    try:
        hypermodel.fit(table(), epochs=1, verbose=0)
        return graphs() - before
    finally:
        gc.enable()


def test_networks_of_ended_trials_are_freed(tmp_path, monkeypatch):
    # Keras looks for circles when a network is built; Spark's workers build none.
    monkeypatch.setattr(global_state, "gc", types.SimpleNamespace(collect=lambda: None))
    assert left_after(5, tmp_path / "five") == left_after(2, tmp_path / "two") > 0
