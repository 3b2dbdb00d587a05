"""Searches over networks that a user's own functions and HyperModels build."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import keras
import keras_tuner
import pandas as pd

from cerebros_spark import LocalBackend, LocalStore
from cerebros_spark.core.types import TrialSpec
from cerebros_spark.runs.artifacts import read_spec
from nas import HyperHyperModel
from tests.nas.small_searches import FEATURES, table


def own_table() -> pd.DataFrame:
    """The table, with labels that few epochs come near."""
    frame = table()
    frame["y"] = (frame["y"] - 100) / 10
    return frame


def searcher(folder: Path, hypermodel: Any, workers: int = 1, **more: Any) -> HyperHyperModel:
    more = {"max_trials": 1, "seed": 0, "project_name": "own", **more}
    search = HyperHyperModel(hypermodel=hypermodel, **more)
    search.resource_bind(store=LocalStore(folder), backend=LocalBackend(workers))
    return search


def fitted(folder: Path, hypermodel: Any, frame: Any, label: str = "y", **more: Any) -> Any:
    search = searcher(folder, hypermodel, **more)
    search.fit(frame[FEATURES], frame[label], epochs=1, verbose=0)
    board = search.result.leaderboard()
    assert set(board["status"]) == {"completed"}, board["traceback"].tolist()
    return search


def specs(folder: Path, search: HyperHyperModel) -> list[TrialSpec]:
    return [read_spec(LocalStore(folder), "own", trial.trial_id) for trial in search.result.trials]


def small(hp: Any) -> keras.Model:
    model = keras.Sequential(
        [
            keras.layers.Dense(hp.Int("units", 2, 9), activation="relu"),
            keras.layers.Dense(3, activation="softmax"),
        ]
    )
    model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
    hp.Choice("batch_size", [8, 24])
    return model


def regression(*, compiled: bool = True, name: str = "fixed") -> keras.Model:
    node = keras.Input((3,))
    model = keras.Model(node, keras.layers.Dense(1)(keras.layers.Dense(4)(node)), name=name)
    if compiled:
        model.compile(keras.optimizers.Nadam(0.02, beta_1=0.8), "mse", metrics=["mae"])
    return model


class Tuned(keras_tuner.HyperModel):
    def declare_hyperparameters(self, hp: Any) -> None:
        hp.Choice("units", [3, 5])

    def build(self, hp: Any) -> keras.Model:
        keras.backend.clear_session()  # as many do
        node = keras.Input((3,))
        tensor = keras.layers.Dense(hp.get("units"))(node)
        model = keras.Model(node, [keras.layers.Dense(1)(tensor), keras.layers.Dense(2)(tensor)])
        loss = ["mse", keras.losses.SparseCategoricalCrossentropy(from_logits=True)]
        model.compile(loss=loss, metrics=[["mae"], ["accuracy"]])
        return model
