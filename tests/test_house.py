from __future__ import annotations

import ast
import importlib
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGES = ["cerebros_spark", "nas"]
MODULES = sorted(p.relative_to(ROOT) for name in PACKAGES for p in (ROOT / name).rglob("*.py"))

# Where PySpark may be imported when the module is, and where only inside a function.
SPARK = {
    "cerebros_spark/daemon.py",
    "cerebros_spark/data/prepare_spark.py",
    "cerebros_spark/data/survey.py",
    "nas/estimators/spark_ml/estimator.py",
    "nas/estimators/spark_ml/model.py",
    "nas/estimators/spark_ml/params.py",
    "nas/estimators/spark_ml/persistence.py",
}
SPARK_LATER = {
    "cerebros_spark/core/pickling.py",
    "cerebros_spark/backends/spark.py",
    "nas/results/scorer.py",
    "nas/results/output_columns.py",
    "nas/config/dataset.py",
    "nas/cli/table_encoding.py",
    "nas/cli/search.py",
    "nas/cli/spark_session.py",
    "nas/cli/table_io.py",
}
KERAS_FAMILY = {"keras", "tensorflow", "autokeras", "keras_tuner"}


def imports(path: Path, later: bool = True) -> Iterator[str]:
    """The modules that a module imports; those inside functions too if ``later``.

    What stands under ``if TYPE_CHECKING:`` is never run, and does not count.
    """
    found: list[str] = []

    def visit(node: ast.AST) -> None:
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test):
            return
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and not later:
            return
        if isinstance(node, ast.Import):
            found.extend(alias.name for alias in node.names)
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} has a relative import"
            found.extend(f"{node.module}.{alias.name}" for alias in node.names)
        for child in ast.iter_child_nodes(node):
            visit(child)

    visit(ast.parse((ROOT / path).read_text()))
    # import_module("…") counts as well.
    for node in ast.walk(ast.parse((ROOT / path).read_text())) if later else ():
        if isinstance(node, ast.Call) and "import_module" in ast.dump(node.func):
            found += [a.value for a in node.args if isinstance(a, ast.Constant)]
    yield from found


def tops(path: Path, later: bool = True) -> set[str]:
    return {name.split(".")[0] for name in imports(path, later)}


@pytest.fixture(params=MODULES, ids=str)
def module(request) -> Path:
    return request.param


def test_there_are_modules_to_look_at():
    assert Path("cerebros_spark/scheduler/scheduler.py") in MODULES
    assert Path("nas/hyperhypermodel.py") in MODULES
    assert "pyspark" in tops(Path("nas/results/scorer.py"))
    assert "pyspark" not in tops(Path("nas/results/scorer.py"), later=False)


def test_the_engine_does_not_know_the_search(module):
    if module.parts[0] == "cerebros_spark":
        assert "nas" not in tops(module)


def test_pyspark_stays_in_its_rooms(module):
    if str(module) not in SPARK:
        assert "pyspark" not in tops(module, later=False)
    if str(module) not in SPARK | SPARK_LATER:
        assert "pyspark" not in tops(module)


def test_keras_stays_in_its_rooms(module):
    if module.parts[0] == "cerebros_spark" and "training" not in module.parts:
        assert not tops(module) & KERAS_FAMILY


def test_petastorm_stays_in_its_room(module):
    if module != Path("cerebros_spark/data/reader_petastorm.py"):
        assert "petastorm" not in tops(module)


@pytest.mark.parametrize(
    ("name", "rooms"),
    [
        ("hopper", {"dispatching", "errors", "events", "trial", "types", "workloads"}),
        ("dispatching", {"events", "matching", "ranking", "trial", "types", "workloads"}),
        ("trial", {"events", "types"}),
        ("workloads", {"types"}),
        ("events", {"types"}),
    ],
)
def test_the_scheduler_is_pure(name, rooms):
    allowed = {"__future__", "collections", "dataclasses", "itertools", "typing", "cerebros_spark"}
    path = Path(f"cerebros_spark/{name}.py")
    assert tops(path) <= allowed
    ours = {name.rpartition(".")[0] for name in imports(path) if name.startswith("cerebros")}
    assert ours <= {f"cerebros_spark.{name}" for name in rooms}


@pytest.mark.parametrize("name", ["dialogue", "ledger", "recalling", "tracks", "turns"])
def test_what_a_search_has_come_to_needs_neither_engine_nor_networks(name):
    rooms = {each.rpartition(".")[0] for each in imports(Path(f"nas/{name}.py"))}
    assert not rooms & {
        "cerebros_spark.engine.engine",
        "nas.search.trial_builder",
        "nas.search.loop",
        "nas.search.build_queue",
    }


def test_nothing_is_printed(module):
    for node in ast.walk(ast.parse((ROOT / module).read_text())):
        called = node.func if isinstance(node, ast.Call) else None
        printed = isinstance(called, ast.Name) and called.id == "print"
        assert not printed, f"{module}:{getattr(node, 'lineno', '')} prints"


def test_nothing_is_pickled_or_evaluated(module):
    assert not tops(module) & {"pickle", "cloudpickle", "dill", "joblib", "marshal"}
    for node in ast.walk(ast.parse((ROOT / module).read_text())):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            assert node.func.id not in ("eval", "exec"), f"{module}:{node.lineno}"


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


@pytest.mark.parametrize("package", PACKAGES)
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
    for module in MODULES:
        assert (ROOT / module).with_name("__init__.py").is_file(), module.parent


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


def test_test_files_have_names_of_their_own():
    names = [path.name for path in (ROOT / "tests").rglob("*.py") if path.name != "conftest.py"]
    assert sorted(names) == sorted(set(names))
    assert not list((ROOT / "tests").rglob("__init__.py"))
