"""Digests of custom code: what they depend on."""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from cerebros_spark.core.pickling import is_user_module
from nas.identity.digest import describe_code, find_changed_values, find_differences

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
mine.some = {(lambda n: lambda x: x + n)(n) for n in range(9)} | {lambda x: x, lambda x: -x}
mine.kinds = {type("Kind", (), {"n": n}) for n in range(9)}
loss = MyLoss
method = mine.build
"""


def described(text: str, name: str = "build") -> dict[str, Any]:
    """Run code as a script and describe its names."""
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
def test_edits_without_effect_do_not_count(old, new, name):
    assert old in BEGIN
    text = BEGIN.replace(old, new)
    assert find_differences(described(BEGIN, name), described(text, name)) == []


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
    ("loss", "factor = 3", "factor = 4", "Base.factor = 3, and now it is 4 (root)"),
    ("loss", "self.factor * x", "self.factor + x", "other code of Base.larger (root)"),
    ("loss", "weight=1.0", "weight=2.0", "other code of MyLoss.__init__ (root)"),
    ("loss", "axis=-1", "axis=0", "other code of MyLoss.call (root)"),
    ("loss", "self.weight / 2", "self.weight / 3", "other code of MyLoss.half (root)"),
    ("loss", "    @property", "    @functools.cached_property", "other code of MyLoss"),
    ("mine", "x + 1", "x + 2", "other code of <lambda> (root)"),
    ("mine", "Mine(3,", "Mine(4,", "self.units = 3, and now it is 4 (root)"),
    ("method", "self.count += 1", "self.count += 2", "other code of Mine.build (root)"),
]


@pytest.mark.parametrize(("name", "old", "new", "named"), EDITS)
def test_an_edit_is_named(name, old, new, named):
    assert old in BEGIN
    differences = find_differences(described(BEGIN, name), described(BEGIN.replace(old, new), name))
    assert any(named in each for each in differences), differences


def test_attributes_that_a_build_sets_do_not_count():
    known: dict[str, Any] = {"__name__": "__main__"}
    exec(compile(BEGIN, "script.py", "exec"), known)
    before = describe_code({"root": known["mine"]})
    known["mine"].build(None)
    known["build"](None)
    assert describe_code({"root": known["mine"]}) == before


# Code that changes values while it is run, and how the root is called.
MUTABLE = {
    "key of two": "cache = {}\ndef build(hp):\n    u, d = 1, 2\n    cache[(u, d)] = hp",
    "key that is called": "from collections import Counter\ncnt = Counter()\n"
    "def build(hp, k='a'):\n    cnt[k.upper()] += 1",
    "default dict": "from collections import defaultdict\ndd = defaultdict(list)\n"
    "def build(hp, key='a'):\n    dd[key].append(1)",
    "attribute of an object": "class State:\n    count = 0\nstate = State()\n"
    "def build(hp):\n    state.count += 1",
    "attribute of a namespace": "import types\nstate = types.SimpleNamespace(count=0)\n"
    "def build(hp):\n    state.count += 1",
    "helper": "seen = []\ndef note(log, x):\n    log.append(x)\ndef build(hp):\n    note(seen, 1)",
    "other name": "seen = []\ndef build(hp):\n    s = seen\n    s.append(1)",
    "items": "table = [[1], [2]]\ndef build(hp):\n    for row in table:\n        row.append(1)",
    "counter of another function": "N = 0\ndef count():\n    global N\n    N += 1\n"
    "def inner():\n    return N\ndef build(hp):\n    count()\n    inner()",
    "default argument": "def build(hp, cache={}):\n    cache[len(cache)] = 1",
    "argument of a partial": "import functools\ndef make(cache, hp):\n    cache[len(cache)] = 1\n"
    "build = functools.partial(make, {})",
    "closure": "def make():\n    n, seen = 0, []\n    def build(hp):\n        nonlocal n\n"
    "        n += 1\n        seen.append(n)\n    return build\nbuild = make()",
    "class dict": "class Registry:\n    made = {}\ndef note(x):\n    Registry.made[x] = x\n"
    "def build(hp):\n    note(len(Registry.made))",
    "hypermodel": "import keras_tuner\nclass Mine(keras_tuner.HyperModel):\n"
    "    def __init__(self):\n        self.cache = {}\n        self.n = 0\n"
    "    def build(self, hp):\n        a, b = 1, 2\n        self.cache[(a, b)] = hp\n"
    "        bump(self)\n"
    "def bump(model):\n    model.n += 1\nmine = Mine()\nbuild = mine.build",
    "environment": "from os import environ\ndef build(hp):\n    environ['CEREBROS_TEST'] = '1'\n"
    "    return environ.get('CEREBROS_TEST')",
}


@pytest.mark.parametrize("name", MUTABLE)
def test_values_that_code_changes_are_never_refused(name, monkeypatch):
    monkeypatch.delenv("CEREBROS_TEST", raising=False)
    known: dict[str, Any] = {"__name__": "__main__"}
    exec(compile(MUTABLE[name], "script.py", "exec"), known)
    root = known.get("mine", known["build"])
    before = describe_code({"root": root})
    for _ in range(2):
        known["build"](1)
        assert find_differences(before, describe_code({"root": root})) == []
    assert "root" in before
    monkeypatch.delenv("CEREBROS_TEST", raising=False)


def test_a_function_of_a_later_cell_does_not_count():
    later = (
        "def other(x):\n    x.units += 1\n    x.factor = CONFIG['rate']\n    CONFIG['rate'] = 1\n"
    )
    for name in ("build", "loss", "mine", "method"):
        assert find_differences(described(BEGIN, name), described(BEGIN + later, name)) == []


def test_the_time_of_a_script_is_not_refused():
    text = "import time\nSTART = time.time()\ndef build(hp):\n    return time.time() - START"
    before, now = described(text), described(text)
    assert find_differences(before, now) == []
    assert find_changed_values(before, now) == ["START"]


CHANGED_OBJECTS = [
    ("class Net:\n    def __init__(self, n):\n        self.n = n\nx = Net({})", "1", "2"),
    ("from collections import deque\nx = deque([{}])", "1", "2"),
    ("class Slotted:\n    __slots__ = ('n',)\nx = Slotted()\nx.n = {}", "1", "2"),
]


@pytest.mark.parametrize(("text", "old", "new"), CHANGED_OBJECTS)
def test_values_of_other_objects_are_warned_of(text, old, new):
    text += "\ndef build(hp):\n    return x"
    before, now = described(text.format(old)), described(text.format(new))
    assert find_differences(before, now) == []
    assert find_changed_values(before, now) == ["x"]


VALUES = [
    ("types.SimpleNamespace(n={})", "1", "2"),
    ("argparse.Namespace(n={})", "1", "2"),
    ("Settings(n={})", "1", "2"),
    ("range({})", "1", "2"),
    ("slice({})", "1", "2"),
    ("decimal.Decimal({})", "1", "2"),
    ("fractions.Fraction({})", "1", "2"),
    ("datetime.date(2020, 1, {})", "1", "2"),
    ("datetime.datetime(2020, 1, {})", "1", "2"),
    ("datetime.timedelta({})", "1", "2"),
    ("re.compile({})", "'a' * 300 + 'b'", "'a' * 300 + 'c'"),
    ("pd.DataFrame({{{}: [1.0]}})", "'a'", "'b'"),
    ("keras.losses.Huber(delta={})", "1.0", "2.0"),
    ("[0] * 5_000 + [{}]", "1", "2"),
    ("{{{}, 'a'}}", "1", "2"),
    ("frozenset([{}, (2, 'b')])", "1", "3"),
]


@pytest.mark.parametrize(("text", "old", "new"), VALUES)
def test_an_edited_value_is_named(text, old, new):
    start = (
        "import argparse, dataclasses, datetime, decimal, fractions, re, types\n"
        "import keras\nimport pandas as pd\n"
        "@dataclasses.dataclass\nclass Settings:\n    n: int\n"
    )
    end = "\ndef build(hp):\n    return hp.call(X)\n"
    before = described(f"{start}X = {text.format(old)}{end}")
    assert find_differences(before, described(f"{start}X = {text.format(old)}{end}")) == []
    differences = find_differences(before, described(f"{start}X = {text.format(new)}{end}"))
    assert len(differences) == 1, differences
    assert differences[0].startswith("X = "), differences


LINKED = """
class Node:
    def __init__(self, n):
        self.n = n

nodes = [Node(n) for n in range(40)]
for node in nodes:
    node.others = nodes
    node.some = set(nodes)
    node.by_name = {each: each for each in nodes}
deep = [1]
for _ in range(60):
    deep = [deep, deep]
long = list(range(300_000))

def build(hp):
    return nodes[0].n, deep[0], long[1]
"""


def test_linked_objects_are_described_once():
    """Following every path would take longer than anyone waits."""
    parts = described(LINKED)["root"]
    assert set(parts) >= {"build", "nodes", "deep", "long", "Node"}
    assert parts == described(LINKED)["root"]
    edited = described(LINKED.replace("deep = [1]", "deep = [2]"))["root"]
    assert edited["deep"] != parts["deep"]


def test_one_value_that_fails_leaves_the_others_compared():
    text = (
        "class Odd(dict):\n    def __iter__(self):\n        raise RuntimeError('closed')\n"
        "ODD = Odd()\nN = 4\ndef build(hp):\n    return ODD, N"
    )
    (difference,) = find_differences(described(text), described(text.replace("N = 4", "N = 5")))
    assert difference == "N = 4, and now it is 5 (root)"


def test_a_root_that_was_not_described_is_not_missed():
    now = described(BEGIN)
    assert find_differences({**now, "root": None}, now) == []
    assert find_differences(now, {**now, "root": None}) == []


def test_modules_in_spark_home_are_installed(tmp_path, monkeypatch):
    (tmp_path / "spark").mkdir()
    (tmp_path / "spark" / "under_spark_home.py").write_text("")
    monkeypatch.syspath_prepend(tmp_path / "spark")
    importlib.import_module("under_spark_home")
    assert is_user_module("under_spark_home")
    monkeypatch.setenv("SPARK_HOME", str(tmp_path / "spark"))
    assert not is_user_module("under_spark_home")
    assert not is_user_module("py4j.java_gateway")
    assert not is_user_module("pyspark.not_imported")


# Code with a value in it that other code might hide.
HIDDEN = {
    "argument of a call": "N = {}\ndef build(hp):\n    hp.get_layer(N).trainable = False",
    "argument of a function": "N = {}\ndef made(n):\n    return [n]\n"
    "def build(hp):\n    made(N).append(1)",
    "class attribute": "class Stop:\n    patience = {}\n    def wait(self):\n"
    "        self.patience -= 1\ndef build(hp):\n    return Stop().wait()",
    "closure of another function": "U = {}\ndef make():\n    U = 0\n    def count():\n"
    "        nonlocal U\n        U += 1\n    return count\n"
    "def build(hp):\n    make()()\n    return U",
    "block": "import contextlib\nN = [{}]\n@contextlib.contextmanager\ndef block(n):\n    yield\n"
    "def build(hp):\n    with block(1):\n        hp.call(N)",
    "dict that raises": "class P(dict):\n    def values(self):\n        raise OSError\n"
    "X = P(n={})\ndef build(hp):\n    for each in X:\n        hp(each)",
    "beside an object that raises": "class P:\n    @property\n    def __class__(self):\n"
    "        raise OSError\n    def __getattr__(self, name):\n        raise OSError\n"
    "X, N = P(), {}\ndef build(hp):\n    X(N)\n    X.n = 1\n    return X, N",
    "int": "class Own(int):\n    pass\nX = Own({})\ndef build(hp):\n    return X",
    "list": "class Own(list):\n    pass\nX = Own([{}])\ndef build(hp):\n    return X[0]",
    "method of an int": "class Own(int):\n    def more(self):\n        return {}\n"
    "X = Own(1)\ndef build(hp):\n    return X.more()",
    "method of a tuple": "from collections import namedtuple\n"
    "class Own(namedtuple('Own', 'n')):\n    def more(self):\n        return {}\n"
    "X = Own(1)\ndef build(hp):\n    return X.more()",
    "method of an array": "import numpy as np\nclass Own(np.ndarray):\n    def more(self):\n"
    "        return {}\nX = np.arange(3).view(Own)\ndef build(hp):\n    return X.more()",
    "array of objects": "import numpy as np\nX = np.array([[{}], [2, 3]], dtype=object)\n"
    "def build(hp):\n    return X[0]",
    "array of records": "import numpy as np\nX = np.array([({}, 2.0)], dtype='i4,f8')\n"
    "def build(hp):\n    return X[0]",
    "index": "import pandas as pd\nX = pd.Index([{}])\ndef build(hp):\n    return X[0]",
    "bytes": "X = bytearray([{}])\ndef build(hp):\n    return X[0]",
    "array": "import array\nX = array.array('d', [{}])\ndef build(hp):\n    return X[0]",
    "enumeration": "import enum\nclass Own(enum.Enum):\n    A = {}\n"
    "def build(hp):\n    return Own.A.value",
}


@pytest.mark.parametrize("name", HIDDEN)
def test_an_edit_that_other_code_might_hide_is_named(name):
    before = described(HIDDEN[name].replace("{}", "1"))
    assert find_differences(before, described(HIDDEN[name].replace("{}", "1"))) == []
    assert len(find_differences(before, described(HIDDEN[name].replace("{}", "9")))) == 1


MAYBE_CHANGED = {
    "w of build": "def build(hp, w=[{}]):\n    v = w\n    return v",
    "w of partial of build": "import functools\ndef build(w):\n    return w\n"
    "build = functools.partial(build, [{}])",
    "X": "import scipy.sparse\nX = scipy.sparse.csr_matrix([[{}]])\ndef build(hp):\n    return X",
}


@pytest.mark.parametrize("name", MAYBE_CHANGED)
def test_a_value_that_may_have_been_changed_is_warned_of(name):
    texts = [MAYBE_CHANGED[name].replace("{}", each) for each in ("1", "9")]
    before, now = map(described, texts)
    assert find_differences(before, now) == []
    assert find_changed_values(before, now) == [name]


def test_unreadable_values_are_warned_of():
    text = "X = (each for each in 'ab')\ndef build(hp):\n    return X"
    assert find_changed_values(described(text), described(text)) == ["a generator"]


OTHER_MODULES = [
    ("from keras.losses import CategoricalCrossentropy as X", "losses", "metrics"),
    ("import math as X", "math", "numpy"),
    ("from math import sqrt as X", "math", "numpy"),
]


@pytest.mark.parametrize(("text", "old", "new"), OTHER_MODULES)
def test_another_module_is_named(text, old, new):
    text += "\ndef build(hp):\n    return X"
    (difference,) = find_differences(described(text), described(text.replace(old, new)))
    assert difference.startswith("X = ")


IMPORTS = ["from {} import f", "import {}", "import {} as m", "from nsp import imported_by_code"]


@pytest.mark.parametrize("line", IMPORTS)
@pytest.mark.parametrize("inside", [True, False])
def test_contents_of_imported_modules_are_compared(tmp_path, monkeypatch, line, inside):
    """In a folder without ``__init__.py``."""
    (tmp_path / "nsp").mkdir()
    monkeypatch.syspath_prepend(tmp_path)
    name = "nsp.imported_by_code"
    line = line.format(name)
    last = line.split()[-1]
    call = "f(1)" if last == "f" else f"{last}.f(1)"
    parts = []
    for number in (1, 2):
        (tmp_path / "nsp" / "imported_by_code.py").write_text(
            f"UNITS = {number}\n" + "#" * number + "\ndef f(x):\n    return x * UNITS\n"
        )
        for each in ("nsp", name):
            sys.modules.pop(each, None)
        importlib.invalidate_caches()
        ahead = f"def build(hp):\n    {line}\n" if inside else f"{line}\ndef build(hp):\n"
        parts.append(described(f"{ahead}    return {call}"))
    differences = find_differences(*parts)
    assert any("UNITS = 1, and now it is 2" in each for each in differences), differences


# What a run leaves behind in the same process.
LEFT = {
    "cached property": "import functools, keras_tuner\n"
    "class Own(keras_tuner.HyperModel):\n    @functools.cached_property\n"
    "    def shape(self):\n        return 3\n"
    "    def build(self, hp):\n        return self.shape\nown = Own()",
    "setattr": "import keras_tuner\nclass Own(keras_tuner.HyperModel):\n    n = 0\n"
    "    def build(self, hp):\n        setattr(self, 'n', self.n + 1)\n"
    "        vars(self)['m'] = self.n\nown = Own()",
    "default dict": "from collections import defaultdict\nd = defaultdict(int)\n"
    "def build(hp):\n    return d[hp]",
    "global": "def build(hp):\n    globals()['later'] = hp\n    return later",
    "iterator": "import itertools\nnumbers = itertools.count()\n"
    "def build(hp):\n    return next(numbers)",
    "method": "class Own(list):\n    def note(self, x):\n        self.append(x)\n"
    "seen = Own()\ndef build(hp):\n    seen.note(hp)",
    "class": "class Own:\n    n = 0\ndef build(hp):\n    Own.n += 1",
}


@pytest.mark.parametrize("name", LEFT)
def test_values_that_a_run_changes_are_not_refused(name):
    known: dict[str, Any] = {"__name__": "__main__"}
    exec(compile(LEFT[name], "script.py", "exec"), known)
    root = known.get("own", known.get("build"))
    before = describe_code({"root": root})
    for _ in range(2):
        getattr(root, "build", root)(1)
        assert find_differences(before, describe_code({"root": root})) == []


def test_docstrings_and_annotations_inside_functions_do_not_count():
    text = (
        "def build(hp):\n    class Own:\n        '''A class.'''\n        n = 1\n"
        "    def inner(x: int, y: dict[str, hp] = 1) -> float:\n        return Own, x\n"
        "    return inner"
    )
    plain = text.replace("        '''A class.'''\n", "").replace(": int", "")
    plain = plain.replace(": dict[str, hp]", "").replace(" -> float", "")
    assert described(text) == described(plain)
    assert described(text) != described(text.replace("y: dict[str, hp] = 1", "y: int = 2"))


ALL = """
import json, sys
from nas.identity.digest import describe_code
sys.stdout.write(json.dumps(describe_code(
    {name: globals()[name] for name in ("build", "whole", "mine", "loss", "method")}
)))
"""


def test_digests_are_the_same_in_every_process(tmp_path):
    """Other hash seeds, other folders, other lines, a script or a module."""
    outputs = []
    for seed, ahead in (("1", ""), ("2", "# moved\n\n\n")):
        folder = tmp_path / seed
        folder.mkdir()
        (folder / f"run{seed}.py").write_text(ahead + BEGIN + ALL)
        path = os.pathsep.join([str(Path(__file__).parents[3]), str(folder)])
        environment = {**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": path}
        command = ["-m", f"run{seed}"] if seed == "2" else [str(folder / "run1.py")]
        done = subprocess.run(
            [sys.executable, *command], env=environment, capture_output=True, text=True, check=True
        )
        outputs.append(json.loads(done.stdout))
    assert outputs[0] == outputs[1]
    assert set(outputs[0]) == {"python", "version", "build", "whole", "mine", "loss", "method"}
