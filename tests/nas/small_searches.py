"""Searches that take a second or two: the smallest networks, a hundred rows."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import autokeras as ak
import keras
import numpy as np
import pandas as pd
import pytest

from cerebros_spark import LocalBackend, LocalStore, Store
from cerebros_spark.runs.journal import Journal
from nas import CerebrosSpace, HyperHyperModel, ModelSelectionResult

ROWS = 90
FEATURES = ["a", "b", "c"]


def small_space(**more: Any) -> CerebrosSpace:
    """One level, at most two units."""
    bounds: dict[str, Any] = {
        "minimum_levels": 1,
        "maximum_levels": 1,
        "maximum_units_per_level": 2,
        "maximum_neurons_per_unit": 3,
        "predecessor_level_connection_affinity_factor_first": 1.0,
        "predecessor_level_connection_affinity_factor_main": 1.0,
        "num_lateral_connection_tries_per_unit": 1,
    }
    return CerebrosSpace.published(**{**bounds, **more})


def table(rows: int = ROWS, seed: int = 0) -> pd.DataFrame:
    """Three features, labels of every kind, and a mark on every third row."""
    rng = np.random.default_rng(seed)
    frame = pd.DataFrame(rng.normal(size=(rows, 3)), columns=FEATURES)
    score = frame["a"] - 2 * frame["b"]
    frame["y"] = 100 + 5 * score + rng.normal(size=rows)
    frame["binary"] = (score > 0).astype("int64")
    frame["three"] = pd.cut(score, [-np.inf, -1, 1, np.inf], labels=False).astype("int64")
    frame["late"] = np.arange(rows) % 3 == 0
    return frame


def build_line(hp: Any) -> keras.Model:
    """One layer, so that little is traced."""
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(1)])
    rate = hp.Float("learning_rate", 1e-3, 1.0, sampling="log")
    model.compile(keras.optimizers.Adam(rate), "mse")
    return model


class SmallSearch(HyperHyperModel):
    """A search without cross-validation, in which the best network predicts alone."""

    def fit(self, *arguments: Any, **options: Any) -> ModelSelectionResult:
        return super().fit(*arguments, **{"ensemble_size": 1, **options})

    def fit_on_prepared_data(self, *arguments: Any, **options: Any) -> ModelSelectionResult:
        return super().fit_on_prepared_data(*arguments, **{"ensemble_size": 1, **options})


def search(
    folder: Path | Store,
    *,
    inputs: Any = None,
    outputs: Any = None,
    max_trials: int = 2,
    seed: int | None = 0,
    bind: dict[str, Any] | None = None,
    **more: Any,
) -> HyperHyperModel:
    """A search with its store, or a store in a folder; ``bind`` goes to ``resource_bind``.

    On one worker if nothing else is bound: each worker traces every network.
    """
    outputs = ak.RegressionHead() if outputs is None else outputs
    heads = outputs if isinstance(outputs, list) else [outputs]
    if all(isinstance(head, ak.Head) for head in heads):
        more.setdefault("space", small_space())
    hypermodel = SmallSearch(
        inputs=ak.Input() if inputs is None else inputs,
        outputs=outputs,
        project_name="small",
        max_trials=max_trials,
        seed=seed,
        **more,
    )
    store = folder if isinstance(folder, Store) else LocalStore(folder)
    hypermodel.resource_bind(**{"store": store, "backend": LocalBackend(1), **(bind or {})})
    return hypermodel


def columns(label: str = "y", **more: Any) -> dict[str, Any]:
    """What binds the table's columns."""
    return {"feature_columns": FEATURES, "label_columns": [label], "validation": "late", **more}


@contextlib.contextmanager
def after_each_record(act: Callable[[list[str]], None]) -> Iterator[None]:
    """Within, each record of a run is written by itself, and followed by a call with all kinds."""
    append = Journal.append
    kinds: list[str] = []

    def watched(self: Journal, kind: str, **fields: Any) -> None:
        append(self, kind, **fields)
        self.commit()
        kinds.append(kind)
        act(kinds)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Journal, "append", watched)
        yield


@contextlib.contextmanager
def killed(
    due: Callable[[list[str]], bool], by: type[BaseException] = KeyboardInterrupt
) -> Iterator[None]:
    """A run that is killed within, after the first record whose kind and those before are due."""

    def kill(kinds: list[str]) -> None:
        if due(kinds):
            raise by

    with pytest.raises(by), after_each_record(kill):
        yield
