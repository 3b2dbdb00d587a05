"""The private attributes of KerasTuner that are used exist in the installed version."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import keras_tuner

from nas.compat import keras_tuner as compat

VERSION = f"KerasTuner {keras_tuner.__version__}"


def test_rebind_build():
    class Named(keras_tuner.HyperModel):
        def build(self, hp: Any) -> Any:
            return self.name

    copied = copy.copy(Named("first"))
    copied.name = "second"
    assert copied.build(None) == "first", VERSION
    compat.rebind_build(copied)
    assert copied.build(None) == "second", VERSION


def test_replace_lookup():
    hp = keras_tuner.HyperParameters()
    calls = []

    def exists(original: Any, name: str, conditions: Any = None) -> bool:
        calls.append(name)
        return original(name, conditions)

    def retrieve(original: Any, definition: Any) -> Any:
        calls.append(definition.name)
        return original(definition)

    with compat.replace_lookup(hp, exists, retrieve):
        assert hp.Int("units", 1, 9) == 1, VERSION
    assert calls == ["units", "units"], VERSION
    assert hp.Int("units", 1, 9) == 1
    assert len(calls) == 2


def test_project_dir_and_surrogate(tmp_path: Path):
    oracle = keras_tuner.oracles.BayesianOptimizationOracle(
        objective=keras_tuner.Objective("val_loss", "min")
    )
    compat.set_project_dir(oracle, str(tmp_path))
    assert Path(oracle._project_dir).parent == tmp_path, VERSION
    before = oracle.gpr
    compat.reset_surrogate(oracle)
    assert type(oracle.gpr) is type(before), VERSION
    assert oracle.gpr is not before, VERSION
