from __future__ import annotations

import threading

import keras

from cerebros_spark import LocalBackend, LocalStore
from nas import HyperHyperModel
from tests.nas.small_searches import columns, table

FIFTH_BUILT = threading.Event()
IN_TIME: list[bool] = []


@keras.saving.register_keras_serializable("slots")
def waiting(y, predicted):
    """Holds its worker until a fifth network is built.

    While it is traced: what waits in a running graph holds threads that all workers share.
    """
    if threading.current_thread().name.startswith("cerebros-worker"):
        IN_TIME.append(FIFTH_BUILT.wait(20))
    return keras.losses.mean_squared_error(y, predicted)


def network(hp):
    number = hp.Int("number", 0, 7)
    if number == 4:
        FIFTH_BUILT.set()
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(1)])
    model.compile("sgd", waiting if number == 0 else "mse")
    return model


def searched(tmp_path, **bind):
    FIFTH_BUILT.clear()
    IN_TIME.clear()
    hypermodel = HyperHyperModel(hypermodel=network, tuner="grid", max_trials=6, seed=0)
    store = LocalStore(tmp_path)
    hypermodel.resource_bind(**columns(backend=LocalBackend(num_workers=2), store=store, **bind))
    return hypermodel.fit(table(), epochs=1, verbose=0)


def test_a_worker_that_would_be_idle_is_given_another_trial(tmp_path):
    # Twice the workers are in flight; three of them soon wait for the worker that the first holds.
    assert len(searched(tmp_path).trials) == 6
    assert IN_TIME
    assert all(IN_TIME)


def test_never_more_trials_than_the_limit_are_in_flight(tmp_path, monkeypatch):
    monkeypatch.setattr(FIFTH_BUILT, "wait", lambda timeout: FIFTH_BUILT.is_set())
    searched(tmp_path, max_concurrent_trials=1)
    assert IN_TIME
    assert not any(IN_TIME)
