from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

from cerebros_spark.training.keras import xla_cache

# A fresh process compiles one function.
SCRIPT = """
from cerebros_spark.training.keras.tensorflow_runtime import load_tensorflow
load_tensorflow()
import tensorflow as tf
print(float(tf.function(lambda x: tf.reduce_sum(x * x), jit_compile=True)(tf.ones(3))))
"""

# The same for a function that is traced after so many tensors were made.
AFTER_OTHERS = """
import sys
import tempfile
from cerebros_spark.training.keras.tensorflow_runtime import load_tensorflow
load_tensorflow()
import tensorflow as tf
from cerebros_spark.training.keras.xla_cache import compile_with_xla
for _ in range(int(sys.argv[1])):
    tf.ones(1) + 1

@compile_with_xla
def squares(many):
    def body(step, total):
        return step + 1, total + tf.cast(step * step, tf.float32)
    return tf.while_loop(lambda step, _: step < many, body, (0, 0.0))[1]

print(float(squares(tf.constant(4))))
"""


@pytest.fixture
def here(tmp_path, monkeypatch) -> Path:
    monkeypatch.setattr(tempfile, "gettempdir", lambda: str(tmp_path))
    monkeypatch.delenv("TF_XLA_FLAGS", raising=False)
    xla_cache.enable_xla_cache.cache_clear()
    yield tmp_path
    xla_cache.enable_xla_cache.cache_clear()


def kept(folder: Path) -> list[Path]:
    return sorted(folder.glob("cerebros_spark-xla-*/*/*.pb"))


def test_a_process_reuses_what_another_compiled(tmp_path):
    found = []
    for _ in range(2):
        assert printed(tmp_path, SCRIPT) == "3.0\n"
        found.append([(path, path.stat().st_mtime_ns) for path in kept(tmp_path)])
    assert len(found[0]) == 1
    assert found[1] == found[0]


def test_reuse_does_not_depend_on_earlier_tensors(tmp_path):
    found = []
    for many in (3, 40):
        assert printed(tmp_path, AFTER_OTHERS, str(many)) == "14.0\n"
        found.append([(path, path.stat().st_mtime_ns) for path in kept(tmp_path)])
    assert len(found[0]) == 1
    assert found[1] == found[0]


def test_other_flags_of_xla_have_another_folder(here, monkeypatch):
    found = set()
    for flags in ("", "--xla_backend_optimization_level=0"):
        monkeypatch.setenv("XLA_FLAGS", flags)
        monkeypatch.delenv("TF_XLA_FLAGS", raising=False)
        xla_cache.enable_xla_cache.cache_clear()
        xla_cache.enable_xla_cache()
        found.add(os.environ["TF_XLA_FLAGS"])
    assert len(found) == 2


def printed(folder: Path, script: str, *arguments: str) -> str:
    environment = {**os.environ, "TMPDIR": str(folder)}
    environment.pop("TF_XLA_FLAGS", None)
    done = subprocess.run(
        [sys.executable, "-c", script, *arguments],
        capture_output=True,
        text=True,
        env=environment,
    )
    assert not done.returncode, done.stderr[-2000:]
    return done.stdout


def test_the_folder_is_private(here):
    xla_cache.enable_xla_cache()
    (home,) = here.iterdir()
    assert home.stat().st_mode & 0o777 == 0o700
    assert str(home) in os.environ["TF_XLA_FLAGS"]


def test_a_folder_that_others_may_write_to_is_not_used(here):
    home = here / f"cerebros_spark-xla-{os.getuid()}"
    home.mkdir()
    home.chmod(0o777)
    xla_cache.enable_xla_cache()
    assert "TF_XLA_FLAGS" not in os.environ


def test_a_folder_in_the_flags_is_kept(here, monkeypatch):
    flags = "--tf_xla_persistent_cache_directory=/somewhere"
    monkeypatch.setenv("TF_XLA_FLAGS", flags)
    xla_cache.enable_xla_cache()
    assert os.environ["TF_XLA_FLAGS"] == flags
    assert not list(here.iterdir())


def test_unused_programs_are_removed(here, monkeypatch):
    xla_cache.enable_xla_cache()
    (folder,) = here.glob("*/*")
    old, new = folder / "old.pb", folder / "new.pb"
    for path in (old, new):
        path.touch()
    month = time.time() - 31 * 86_400
    os.utime(old, (month, month))
    xla_cache.enable_xla_cache.cache_clear()
    monkeypatch.delenv("TF_XLA_FLAGS")
    xla_cache.enable_xla_cache()
    assert kept(here) == [new]


def test_a_folder_with_spaces_is_not_used(tmp_path, here, monkeypatch):
    monkeypatch.setattr(tempfile, "gettempdir", lambda: str(tmp_path / "a folder"))
    xla_cache.enable_xla_cache()
    assert "TF_XLA_FLAGS" not in os.environ
