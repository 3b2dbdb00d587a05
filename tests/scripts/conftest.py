from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
from pathlib import Path

import lazy_loader
import pytest


@pytest.fixture(scope="session")
def small_environment(tmp_path_factory) -> tuple[Path, dict[str, str]]:
    """A small virtual environment, and the variables that make it find this one's packages.

    By itself it has only what importing the packages needs.
    """
    folder = tmp_path_factory.mktemp("environment") / "small"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder)], check=True)
    (site_packages,) = folder.glob("lib/python*/site-packages")
    shutil.copytree(Path(lazy_loader.__file__).parent, site_packages / "lazy_loader")
    pyspark = importlib.util.find_spec("pyspark")
    assert pyspark is not None
    assert pyspark.origin is not None
    packages = str(Path(pyspark.origin).parents[1])
    return folder / "bin" / "python", {**os.environ, "PYTHONPATH": packages}
