from __future__ import annotations

import importlib
import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGES = ["cerebros_spark", "nas"]


def fresh(code: str) -> str:
    """What a fresh Python says, started in the repository's root."""
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stderr == ""
    return done.stdout


def test_importing_the_packages_is_light():
    heavy = ["tensorflow", "keras", "pyspark", "petastorm", "grpc", "pandas", "pyarrow"]
    code = (
        "import json, sys, cerebros_spark, nas\n"
        f"print(json.dumps([n for n in {heavy!r} if n in sys.modules]))\n"
    )
    assert json.loads(fresh(code)) == []


@pytest.mark.parametrize("name", ["LocalStore", "CerebrosError", "SparkBackend", "LocalBackend"])
def test_public_names_of_the_engine_do_not_load_tensorflow(name):
    code = (
        f"import sys; from cerebros_spark import {name}\n"
        "print([n for n in ('tensorflow', 'keras', 'pyspark', 'nas') if n in sys.modules])\n"
    )
    assert fresh(code).strip() == "[]"


@pytest.mark.parametrize(
    "package", ["cerebros_spark", pytest.param("nas", marks=pytest.mark.keras)]
)
def test_public_names_can_be_imported_and_listed(package):
    module = importlib.import_module(package)
    assert len(module.__all__) == len(set(module.__all__))
    for name in module.__all__:
        assert getattr(module, name) is not None
    assert set(module.__all__) <= set(dir(module))
    with pytest.raises(AttributeError, match=f"module '{package}' has no attribute 'nonsense'"):
        _ = module.nonsense


@pytest.mark.parametrize("package", PACKAGES)
def test_packages_say_that_they_are_typed(package):
    assert (ROOT / package / "py.typed").is_file()


def test_every_package_folder_has_an_init():
    for name in (*PACKAGES, "tests"):
        for module in (ROOT / name).rglob("*.py"):
            assert module.with_name("__init__.py").is_file(), module.parent


def test_the_profile_folder_shadows_nothing():
    code = "import cProfile, profile, pstats; cProfile.run('1 + 1'); print(profile.__file__)"
    assert not fresh(code).strip().splitlines()[-1].startswith(str(ROOT))
    folder = ROOT / "profile"
    assert not (folder / "__init__.py").exists()
    assert not (folder / "profile.py").exists()
    assert not (ROOT / "profile.py").exists()


def test_pyspark_imports_from_the_root():
    # It uses cProfile; a package called profile would break it.
    assert fresh("import pyspark.profiler; print('well')").strip() == "well"
