"""What was exported, looked at by a fresh process that has Keras and nothing else."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import keras
import numpy as np

_FRESH_PROCESS = """
import importlib, pathlib, sys
import keras, numpy
objects = {}
for name in sys.argv[2:]:
    objects |= importlib.import_module(name).CUSTOM
for path in sorted(pathlib.Path(sys.argv[1]).glob("*.keras")):
    rows = numpy.load(path.with_suffix(".npz"))
    model = keras.models.load_model(path, custom_objects=objects)
    x = [rows[name] for name in sorted(rows) if name.startswith("x")]
    told = model.predict(x if len(x) > 1 else x[0], batch_size=64, verbose=0)
    told = told if isinstance(told, list) else [told]
    wanted = [rows[name] for name in sorted(rows) if name.startswith("y")]
    same = all(numpy.array_equal(a, b) for a, b in zip(told, wanted, strict=True))
    print(path.stem, "same" if same else "other")
own = [name for name in sys.modules if name.split(".")[0] in ("autokeras", "nas", "cerebros_spark")]
print("imported", own)
"""


def keep(folder: Path, name: str, model: keras.Model, x: list[np.ndarray]) -> None:
    """Saves a model, and what it says to rows."""
    told = model.predict(x if len(x) > 1 else x[0], batch_size=64, verbose=0)
    told = told if isinstance(told, list) else [told]
    stem = name.replace(" ", "_").replace(",", "")
    model.save(folder / f"{stem}.keras")
    arrays = {f"x{i}": each for i, each in enumerate(x)}
    arrays |= {f"y{i}": each for i, each in enumerate(told)}
    np.savez(folder / f"{stem}.npz", **arrays)


def check_in_a_fresh_process(folder: Path, *modules: str) -> None:
    """Loads all that was kept, with the ``CUSTOM`` objects of these modules of the tests."""
    saved = sorted(path.stem for path in folder.glob("*.keras"))
    assert saved
    ended = subprocess.run(
        [sys.executable, "-c", _FRESH_PROCESS, str(folder), *modules],
        capture_output=True,
        text=True,
        timeout=250,
        cwd=Path(__file__).parent.parent,
    )
    assert ended.returncode == 0, ended.stderr[-3000:]
    assert ended.stdout.splitlines() == [*(f"{name} same" for name in saved), "imported []"]
