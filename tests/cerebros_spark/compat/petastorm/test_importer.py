"""A package whose modules see views of other modules."""

from __future__ import annotations

import importlib
import inspect
import itertools
import math
import sys
from types import ModuleType

import pytest

from cerebros_spark.compat.petastorm.importer import ModuleView, ViewImporter

MODULES = {
    "__init__": "",
    "plain": "import math\nfrom math import pi, sin\nfrom json import dumps\n",
    "lazy": "def pi():\n    from math import pi\n    return pi\n",
    "nested": "import gone.deep\nimport gone.deep as deep\nfrom gone import deep as again\n",
    "below": "import xml.etree\nfrom xml import dom\nimport xml.sax.handler as handler\n",
    "relative": "from . import plain\nfrom .plain import pi\n",
    "missing": "from math import nothing\n",
    "missing_module": "import gone.other\n",
}
NAMES = itertools.count()


@pytest.fixture
def package(tmp_path, monkeypatch):
    """The name of a package with the modules above and an importer for it."""
    name = f"viewed_{next(NAMES)}"
    for module, source in MODULES.items():
        path = tmp_path / name / f"{module}.py"
        path.parent.mkdir(exist_ok=True)
        path.write_text(source)
    deep = ModuleView("gone.deep", {"answer": 42})
    xml = importlib.import_module("xml")
    views = [
        ModuleView("math", {"pi": 3, "tau": 6}, math),
        ModuleView("gone", {"deep": deep}),
        deep,
        ModuleView("xml", {"new": True}, xml),
    ]

    def amend(module: ModuleType) -> None:
        module.pi += 1

    amendments = {f"{name}.relative": amend}
    importer = ViewImporter(name, {view.__name__: view for view in views}, amendments)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(sys, "meta_path", [importer, *sys.meta_path])
    return name


def load(package, module):
    return importlib.import_module(f"{package}.{module}")


def test_names_are_replaced_and_others_are_not(package):
    plain = load(package, "plain")
    assert (plain.pi, plain.math.pi, plain.math.tau) == (3, 3, 6)
    assert plain.sin is plain.math.sin is math.sin
    assert plain.dumps([1]) == "[1]"


def test_other_modules_see_no_change(package):
    before = dict(vars(math)), set(sys.modules)
    load(package, "plain")
    load(package, "nested")
    assert dict(vars(math)) == before[0]
    added = {f"{package}.{name}" for name in ("plain", "nested")} | {package}
    assert set(sys.modules) - before[1] == added
    assert importlib.import_module("math") is math
    with pytest.raises(ModuleNotFoundError):
        importlib.import_module("gone")


def test_imports_within_functions(package):
    assert load(package, "lazy").pi() == 3


def test_modules_that_exist_only_as_views(package):
    nested = load(package, "nested")
    assert nested.deep.answer == nested.again.answer == nested.gone.deep.answer == 42


def test_submodules_of_viewed_modules(package):
    below = load(package, "below")
    assert below.xml.new
    assert below.xml.etree is sys.modules["xml.etree"]
    assert below.dom is sys.modules["xml.dom"]
    assert below.handler is sys.modules["xml.sax.handler"]
    assert not hasattr(sys.modules["xml"], "new")


def test_relative_imports_and_amendments(package):
    relative = load(package, "relative")
    assert relative.plain is load(package, "plain")
    assert (relative.pi, relative.plain.pi) == (4, 3)


def test_missing_names_raise_as_usual(package):
    with pytest.raises(ImportError, match="cannot import name 'nothing'"):
        load(package, "missing")
    with pytest.raises(ModuleNotFoundError, match="No module named 'gone"):
        load(package, "missing_module")
    with pytest.raises(AttributeError, match="module 'math' has no attribute 'nothing'"):
        _ = load(package, "plain").math.nothing
    with pytest.raises(AttributeError, match=r"module 'gone\.deep' has no attribute 'nothing'"):
        _ = load(package, "nested").deep.nothing
    assert f"{package}.missing" not in sys.modules


def test_the_source_of_a_module_is_found(package):
    assert inspect.getsource(load(package, "lazy").pi) == MODULES["lazy"]
