"""What identifies custom code, and what doesn't."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from nas.identity import describe_code, differences

BEGIN = """\
import functools
import keras
import keras_tuner
import numpy as np

UNITS = 4
CONFIG = {"rate": 0.1, "names": {"b", "a", "c"}}
TABLE = np.arange(6.0).reshape(2, 3)
SEEN = []


def helper(x, times=2):
    '''Doubles.'''
    return times * x


class Base:
    factor = 3

    def larger(self, x):
        return self.factor * x


class MyLoss(keras.losses.Loss):
    def __init__(self, weight=1.0, **more):
        super().__init__(**more)
        self.weight = weight

    def call(self, y_true, y_pred):
        scale = Base().larger(helper(self.weight))
        return scale * keras.ops.mean(keras.ops.square(y_true - y_pred), axis=-1)

    @property
    def half(self):
        return self.weight / 2


def make(width):
    def build(hp):
        SEEN.append(hp)
        total = 0
        for name in ("a", "b"):
            try:
                total += CONFIG["rate"]
            except KeyError:
                total = [each for each in range(UNITS)]
        return keras.layers.Dense(width, kernel_initializer=keras.initializers.Constant(TABLE))
    return build


class Mine(keras_tuner.HyperModel):
    def __init__(self, units, act):
        super().__init__()
        self._setup(units)
        self.act = act
        self.count = 0
        self.models = []

    def _setup(self, units):
        self.units = units

    def build(self, hp):
        self.count += 1
        self.models.append(hp)
        return keras.layers.Dense(self.units, self.act)


build = make(5)
whole = functools.partial(build, {})
mine = Mine(3, lambda x: x + 1)
loss = MyLoss
method = mine.build
"""


def described(text: str, name: str = "build") -> dict[str, Any]:
    """Runs code as a script and describes what it names."""
    known: dict[str, Any] = {"__name__": "__main__"}
    exec(compile(text, "script.py", "exec"), known)
    return describe_code({"root": known[name]})


HARMLESS = [
    ("\n\nclass Base", "\n\n# A comment.\n\nclass Base"),
    ("'''Doubles.'''", "'''Doubles what it is given.'''"),
    ("    '''Doubles.'''\n", ""),
    ("scale", "scaling"),
    ("return times * x", "return (\n        times\n        * x\n    )"),
    ('{"b", "a", "c"}', '{"c", "b", "a"}'),
    ("SEEN = []", "SEEN = [1, 2]"),
    ("class MyLoss(", "class Unused:\n    pass\n\n\nclass MyLoss("),
]


@pytest.mark.parametrize(("old", "new"), HARMLESS)
@pytest.mark.parametrize("name", ["build", "loss", "mine"])
def test_what_changes_nothing_does_not_count(old, new, name):
    assert old in BEGIN
    text = BEGIN.replace(old, new)
    assert differences(described(BEGIN, name), described(text, name)) == []


EDITS = [
    ("build", "UNITS = 4", "UNITS = 5", "UNITS = 4, and now it is 5 (root)"),
    ("build", '"rate": 0.1', '"rate": 0.2', "CONFIG = "),
    ("build", "reshape(2, 3)", "reshape(3, 2)", "TABLE = "),
    ("build", "make(5)", "make(6)", "width = 5, and now it is 6 (root)"),
    ("build", "total = 0", "total = 0.0", "other code of build (root)"),
    ("build", "except KeyError", "except ValueError", "other code of build (root)"),
    ("build", "for each in", "for each in SEEN or", "other code of build (root)"),
    ("whole", "build, {}", "build, {1: 2}", "arguments = "),
    ("loss", "times=2", "times=3", "other code of helper (root)"),
    ("loss", "return times * x", "return times + x", "other code of helper (root)"),
    ("loss", "factor = 3", "factor = 4", "other code of Base (root)"),
    ("loss", "self.factor * x", "self.factor + x", "other code of Base.larger (root)"),
    ("loss", "weight=1.0", "weight=2.0", "other code of MyLoss.__init__ (root)"),
    ("loss", "axis=-1", "axis=0", "other code of MyLoss.call (root)"),
    ("loss", "self.weight / 2", "self.weight / 3", "other code of MyLoss.half (root)"),
    ("loss", "    @property", "    @functools.cached_property", "other code of MyLoss"),
    ("mine", "x + 1", "x + 2", "other code of <lambda> (root)"),
    ("mine", "Mine(3,", "Mine(4,", "arguments = "),
    ("method", "self.count += 1", "self.count += 2", "other code of Mine.build (root)"),
]


@pytest.mark.parametrize(("name", "old", "new", "named"), EDITS)
def test_an_edit_is_named(name, old, new, named):
    assert old in BEGIN
    found = differences(described(BEGIN, name), described(BEGIN.replace(old, new), name))
    assert any(named in each for each in found), found


def test_what_objects_note_while_they_build_does_not_count():
    known: dict[str, Any] = {"__name__": "__main__"}
    exec(compile(BEGIN, "script.py", "exec"), known)
    before = describe_code({"root": known["mine"]})
    known["mine"].build(None)
    known["build"](None)
    assert describe_code({"root": known["mine"]}) == before


ALL = """
import json, sys
from nas.identity import describe_code
sys.stdout.write(json.dumps(describe_code(
    {name: globals()[name] for name in ("build", "whole", "mine", "loss", "method")}
)))
"""


def test_digests_are_the_same_in_every_process(tmp_path):
    """Other hash seeds, other folders, other lines, a script or a module."""
    told = []
    for seed, ahead in (("1", ""), ("2", "# moved\n\n\n")):
        folder = tmp_path / seed
        folder.mkdir()
        (folder / f"run{seed}.py").write_text(ahead + BEGIN + ALL)
        path = os.pathsep.join([str(Path(__file__).parents[2]), str(folder)])
        environment = {**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": path}
        command = ["-m", f"run{seed}"] if seed == "2" else [str(folder / "run1.py")]
        done = subprocess.run(
            [sys.executable, *command], env=environment, capture_output=True, text=True, check=True
        )
        told.append(json.loads(done.stdout))
    assert told[0] == told[1]
    assert set(told[0]) == {"python", "build", "whole", "mine", "loss", "method"}
