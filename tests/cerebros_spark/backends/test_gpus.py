from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.fixture(scope="module")
def witnesses(tmp_path_factory) -> list[dict]:
    folder = tmp_path_factory.mktemp("gpus")
    script = Path(__file__).with_name("gpu_search.py")
    done = subprocess.run(
        [sys.executable, str(script), str(folder)], capture_output=True, text=True, timeout=280
    )
    assert done.returncode == 0, done.stderr[-4000:]
    return [json.loads(path.read_text()) for path in folder.glob("*.json")]


@pytest.mark.parametrize("job", ["training", "scoring"])
def test_each_process_sees_the_gpu_that_spark_assigned_to_its_task(witnesses, job):
    seen = {w["pid"]: w for w in witnesses if w["job"] == job}
    assert len(seen) == 2
    for witness in seen.values():
        assert witness["visible"] == ",".join(witness["assigned"])
    assert sorted(witness["visible"] for witness in seen.values()) == ["4", "7"]
