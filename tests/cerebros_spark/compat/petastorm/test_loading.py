"""What loading Petastorm leaves behind; each in a fresh process."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys

import numpy as np
import pyarrow.parquet as pq
import pytest

# As cerebros_spark.compat.petastorm.loading has it, and fixed by the installed versions.
ALONE = (
    hasattr(pq, "ParquetDatasetPiece")
    and hasattr(np, "unicode_")
    and importlib.util.find_spec("distutils") is not None
)
needs_replacements = pytest.mark.skipif(ALONE, reason="Petastorm works alone with these libraries")

SNAPSHOT = """
import json, sys
import numpy, pyarrow, pyarrow.parquet
from cerebros_spark.compat.petastorm.loading import load_petastorm

WATCHED = {name: sys.modules[name] for name in ("numpy", "pyarrow", "pyarrow.parquet", "builtins")}

def snapshot():
    return {name: dict(vars(module)) for name, module in WATCHED.items()}

def changes(before, after):
    # Submodules that are imported become attributes of their package.
    return [
        f"{name}.{key}"
        for name in WATCHED
        for key in before[name].keys() | after[name].keys()
        if before[name].get(key) is not after[name].get(key)
        and f"{name}.{key}" not in sys.modules
    ]

def petastorms():
    return sorted(name for name in sys.modules if name.partition(".")[0] == "petastorm")

def importers():
    # Not all finders: the library six adds one.
    return [finder for finder in sys.meta_path if type(finder).__name__ == "ViewImporter"]
"""


def fresh(code: str) -> str:
    """Run code in a fresh process; return what it prints."""
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", SNAPSHOT + code],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_nothing_that_others_see_is_changed():
    changed, added = json.loads(
        fresh("""
before, modules = snapshot(), set(sys.modules)
load_petastorm()
import petastorm.predicates, petastorm.reader, petastorm.weighted_sampling_reader
assert len(importers()) <= 1
print(json.dumps([changes(before, snapshot()), sorted(set(sys.modules) - modules)]))
""")
    )
    assert changed == []
    invented = ("pyarrow.filesystem", "pyarrow.hdfs", "distutils", "distutils.version")
    assert "petastorm.reader" in added
    if not ALONE:
        assert [name for name in invented if name in added] == []
    # All others are what Petastorm asks for, of installed packages.
    for name in added:
        if name.partition(".")[0] in ("numpy", "pyarrow"):
            assert importlib.util.find_spec(name) is not None, name


@pytest.mark.skipif(not ALONE, reason="Petastorm does not work alone with these libraries")
def test_nothing_is_replaced_where_petastorm_works_alone():
    fresh("""
petastorm = load_petastorm()
assert importers() == []
assert sys.modules["petastorm.reader"].pq is pyarrow.parquet
assert not [name for name in sys.modules if name.startswith("cerebros_spark.compat.petastorm.p")]
""")


@needs_replacements
def test_petastorm_sees_the_replacements():
    fresh("""
petastorm = load_petastorm()
assert petastorm.reader.pq is not pyarrow.parquet
assert petastorm.reader.pq.read_table is pyarrow.parquet.read_table
assert not hasattr(pyarrow.parquet, "ParquetDatasetPiece")
assert petastorm.predicates.np.unicode_ is numpy.str_
assert not hasattr(numpy, "unicode_")
""")


def test_loading_again_gives_the_same_module():
    fresh("""
first = load_petastorm()
finders = list(sys.meta_path)
import petastorm
assert load_petastorm() is first is petastorm
assert sys.meta_path == finders
""")


def test_threads_load_it_once():
    fresh("""
import threading
barrier, found = threading.Barrier(8), []

def load():
    barrier.wait()
    petastorm = load_petastorm()
    found.append((petastorm, petastorm.make_batch_reader))

threads = [threading.Thread(target=load) for _ in range(8)]
[thread.start() for thread in threads]
[thread.join() for thread in threads]
assert len(found) == 8 and len(set(found)) == 1
""")


@needs_replacements
def test_it_can_be_loaded_after_a_failed_import():
    fresh("""
try:
    import petastorm
except ImportError:
    pass
else:
    raise AssertionError("Petastorm works alone?")
assert petastorms()  # the import leaves these
load_petastorm()
from petastorm import make_batch_reader
reader, errors = sys.modules["petastorm.reader"], sys.modules["petastorm.errors"]
assert reader.NoDataAvailableError is errors.NoDataAvailableError
""")


@pytest.mark.parametrize("error", ["ImportError", "KeyboardInterrupt"])
def test_a_failed_load_leaves_nothing_behind(error):
    fresh(f"""
import importlib.abc

class Saboteur(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name == "petastorm.workers_pool.thread_pool":
            assert "petastorm.errors" in sys.modules
            raise {error}("sabotage")

sys.meta_path.insert(0, Saboteur())
before = snapshot()
try:
    load_petastorm()
except {error} as caught:
    assert str(caught) == "sabotage"
else:
    raise AssertionError("no error")
assert importers() == []
if not {ALONE}:
    assert petastorms() == []
assert changes(before, snapshot()) == []
del sys.meta_path[0]
assert load_petastorm().make_batch_reader
""")


def test_an_absent_petastorm():
    fresh("""
import importlib.abc

class Hidden(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == "petastorm":
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Hidden())
try:
    load_petastorm()
except ModuleNotFoundError as error:
    assert error.name == "petastorm"
else:
    raise AssertionError("no error")
assert importers() == petastorms() == []
""")


def test_another_compatible_petastorm_is_left_alone():
    fresh("""
import types
mine = sys.modules["petastorm"] = types.ModuleType("petastorm")
assert load_petastorm() is mine
assert importers() == []
""")


@pytest.mark.spark
def test_the_converter_can_be_imported():
    fresh("load_petastorm()\nimport petastorm.spark\nassert petastorm.spark.make_spark_converter")


@pytest.mark.keras
def test_a_dataset_of_tensorflow(tmp_path):
    import pyarrow as pa

    pq.write_table(pa.table({"x": [1.0, 2.0], "s": ["a", "b"]}), tmp_path / "part.parquet")
    printed = fresh(f"""
load_petastorm()
from petastorm import make_batch_reader
from petastorm.tf_utils import make_petastorm_dataset

with make_batch_reader("file://{tmp_path}", reader_pool_type="dummy") as reader:
    rows = [(batch.x.numpy().tolist(), batch.s.numpy().tolist())
            for batch in make_petastorm_dataset(reader)]
print(rows)
""")
    assert "[([1.0, 2.0], [b'a', b'b'])]" in printed
