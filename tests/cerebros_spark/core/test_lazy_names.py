from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from _packing import package_archive

ROOT = Path(__file__).parents[3]


@pytest.mark.parametrize("package", ["cerebros_spark", "nas"])
def test_public_names_load_from_an_archive_of_the_packages(tmp_path, package):
    archive = package_archive(ROOT, tmp_path)
    code = (
        "import json, sys\n"
        f"sys.path.insert(0, {str(archive)!r})\n"
        f"import {package} as it, cerebros_spark\n"
        "print(json.dumps([it.__file__, sorted(it.__all__), cerebros_spark.LocalStore.__name__]))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    file, names, store = json.loads(done.stdout)
    assert file.startswith(str(archive))
    assert set(names) == set(__import__(package).__all__)
    assert store == "LocalStore"
