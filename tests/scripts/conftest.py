from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pyspark
import pytest


@pytest.fixture(scope="session")
def small_environment(tmp_path_factory) -> tuple[Path, dict[str, str]]:
    """An empty virtual environment, and the variables that make it find this one's packages."""
    folder = tmp_path_factory.mktemp("environment") / "small"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder)], check=True)
    packages = str(Path(pyspark.__file__).parents[1])
    return folder / "bin" / "python", {**os.environ, "PYTHONPATH": packages}
