"""The public names of both packages, and what importing them does to a process."""

from __future__ import annotations

import ast
import importlib
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
# TensorFlow's native library prints these, depending on the machine, whatever is set.
NATIVE = re.compile(
    r"WARNING: All log messages before absl|I0000 .*(Could not find cuda drivers|oneDNN custom)"
)
IMPORT = """
import os
import signal
import sys

def fail(*args):
    raise AssertionError("a file descriptor was redirected")

os.dup = os.dup2 = fail
before = sys.stdout, sys.stderr, signal.getsignal(signal.SIGTERM), os.getcwd(), os.umask(0o22)
from nas import HyperHyperModel, Proposal, Tuner
assert before == (sys.stdout, sys.stderr, signal.getsignal(signal.SIGTERM), os.getcwd(), 0o22)
"""


@pytest.mark.parametrize("package", ["cerebros_spark", "nas"])
def test_the_stub_lists_all_public_names(package):
    stub = ast.parse((ROOT / package / "__init__.pyi").read_text())
    (names,) = [
        ast.literal_eval(node.value)
        for node in stub.body
        if isinstance(node, ast.Assign) and node.targets[0].id == "__all__"
    ]
    assert names == importlib.import_module(package).__all__


def test_errors_have_one_public_module():
    import cerebros_spark
    from cerebros_spark import errors

    names = [name for name, value in vars(errors).items() if isinstance(value, type)]
    assert "CerebrosError" in names
    for name in names:
        assert getattr(cerebros_spark, name) is getattr(errors, name)


def test_replay_is_public_in_both_packages():
    import cerebros_spark
    import nas

    assert nas.Replay is cerebros_spark.Replay


def test_importing_a_name_redirects_nothing_and_prints_nothing_of_its_own():
    done = subprocess.run(
        [sys.executable, "-c", IMPORT], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout == ""
    assert [line for line in done.stderr.splitlines() if not NATIVE.match(line)] == []
