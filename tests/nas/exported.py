"""What was exported, looked at by a fresh process that has Keras and nothing else."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np

_FRESH_PROCESS = """
import importlib, json, pathlib, sys
import keras, numpy
saved, tolerance = json.loads(sys.argv[1])
for path, module in saved:
    path = pathlib.Path(path)
    objects = importlib.import_module(module).CUSTOM if module else {}
    rows = numpy.load(path.with_suffix(".npz"))
    model = keras.models.load_model(path, custom_objects=objects)
    x = [rows[name] for name in sorted(rows) if name.startswith("x")]
    told = model.predict(x if len(x) > 1 else x[0], batch_size=64, verbose=0)
    told = told if isinstance(told, list) else [told]
    wanted = [rows[name] for name in sorted(rows) if name.startswith("y")]
    assert [each.shape for each in told] == [each.shape for each in wanted], path
    same = all(numpy.allclose(a, b, tolerance, tolerance / 10) for a, b in zip(told, wanted))
    whole = not rows["compiled"] or model.compiled and model.optimizer is not None
    print(path.stem, "same" if same and whole else f"other: {told}, {wanted}, {whole}")
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
    np.savez(folder / f"{stem}.npz", compiled=model.compiled, **arrays)


def check_in_a_fresh_process(
    *folders: Path, custom: tuple[Path, str] | None = None, tolerance: float = 0.0
) -> None:
    """Loads all that was kept, and sees that it says the same.

    ``custom`` is a folder of models that need the objects in ``CUSTOM`` of a module of the tests;
    the others are loaded before these objects are there.
    """
    saved = [(path, "") for folder in folders for path in sorted(folder.glob("*.keras"))]
    if custom:
        saved += [(path, custom[1]) for path in sorted(custom[0].glob("*.keras"))]
    assert saved
    asked = json.dumps([[(str(path), module) for path, module in saved], tolerance])
    ended = subprocess.run(
        [sys.executable, "-c", _FRESH_PROCESS, asked],
        capture_output=True,
        text=True,
        timeout=250,
        cwd=Path(__file__).parent,
    )
    assert ended.returncode == 0, ended.stderr[-3000:]
    names = [path.stem for path, _ in saved]
    told = ended.stdout.splitlines()
    assert told == [*(f"{name} same" for name in names), "imported []"], told
