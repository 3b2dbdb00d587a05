from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def small_environment(tmp_path_factory) -> tuple[Path, dict[str, str]]:
    """An empty virtual environment, and the variables that make it find this one's packages."""
    folder = tmp_path_factory.mktemp("environment") / "small"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder)], check=True)
    pyspark = importlib.util.find_spec("pyspark")
    assert pyspark is not None
    assert pyspark.origin is not None
    packages = str(Path(pyspark.origin).parents[1])
    return folder / "bin" / "python", {**os.environ, "PYTHONPATH": packages}
