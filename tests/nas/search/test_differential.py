"""Random small settings: a search's only trial is what ``keras.Model.fit`` makes of the network.

One batch holds all rows, so their order does not matter. A setting follows from its number alone;
``DIFFERENTIAL_SETTINGS=200`` tries that many. By default one in three is traced, as users have it,
and the others run eagerly: tracing takes most of the time.
"""

from __future__ import annotations

import os
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

from cerebros_spark import LocalBackend, LocalStore
from cerebros_spark.core.types import StateRef
from cerebros_spark.runs.artifacts import read_state
from cerebros_spark.runs.journal import read
from cerebros_spark.training.keras.checkpoint import StateVariables
from nas import HyperHyperModel
from tests.nas.search.random_settings import Setting
from tests.simulated_keras import EAGER, keras_trained_by

COUNT = int(os.environ.get("DIFFERENTIAL_SETTINGS", "30"))
TRACED = range(COUNT) if "DIFFERENTIAL_SETTINGS" in os.environ else range(0, COUNT, 3)


class KeptWeights(keras.callbacks.Callback):
    """The weights after each epoch."""

    def __init__(self) -> None:
        super().__init__()
        self.kept: list[Any] = []

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        self.kept.append(self.model.get_weights())


def started(setting: Setting, folder: Path) -> keras.Model:
    """The network with the initial weights that the search gave it."""
    store = LocalStore(folder)
    first = next(record for record in read(store, "small") if record["kind"] == "trial")
    model = setting.build()
    model.optimizer.build(model.trainable_variables)
    StateVariables(model).write(read_state(store, StateRef(**first["state"])))
    model.run_eagerly = True  # a step is not worth tracing
    return model


@pytest.mark.parametrize("number", range(COUNT))
def test_a_search_equals_keras(number: int, tmp_path: Path) -> None:
    setting = Setting(number)
    search = HyperHyperModel(
        hypermodel=setting.build, project_name="small", max_trials=1, seed=number
    )
    search.resource_bind(backend=LocalBackend(1), store=LocalStore(tmp_path))
    with nullcontext() if number in TRACED else keras_trained_by(EAGER):
        trial = search.fit(**setting.arguments).best_trial

    model, weights = started(setting, tmp_path), KeptWeights()
    arguments = {**setting.arguments, "callbacks": [weights], "shuffle": False}
    wanted = model.fit(**arguments, validation_batch_size=128).history
    assert trial.history.keys() == wanted.keys(), setting
    for name, values in wanted.items():
        assert trial.history[name] == pytest.approx(values, rel=1e-5, abs=1e-6), (name, setting)

    model.set_weights(weights.kept[trial.best_epoch])
    x = setting.arguments["validation_data"][0]
    search.export_model().run_eagerly = True
    got = search.predict(x)
    outputs = model(keras.tree.map_structure(keras.ops.convert_to_tensor, x), training=False)
    for each, output in zip(keras.tree.flatten(got), keras.tree.flatten(outputs), strict=True):
        np.testing.assert_allclose(each, output, rtol=1e-4, atol=1e-5, err_msg=str(setting))
