"""What was exported, looked at by a fresh process that has Keras and nothing else."""

from __future__ import annotations

import atexit
import functools
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import IO

import keras
import numpy as np

_FRESH_PROCESS = """
import importlib, json, pathlib, sys
import keras, numpy
for line in sys.stdin:
    saved, tolerance = json.loads(line)
    states = []
    for path, module in saved:
        path = pathlib.Path(path)
        objects = importlib.import_module(module).CUSTOM if module else {}
        rows = numpy.load(path.with_suffix(".npz"))
        model = keras.models.load_model(path, custom_objects=objects)
        model.run_eagerly = True  # a few rows are not worth tracing
        x = [rows[name] for name in sorted(rows) if name.startswith("x")]
        given = model.predict(x if len(x) > 1 else x[0], batch_size=64, verbose=0)
        given = given if isinstance(given, list) else [given]
        wanted = [rows[name] for name in sorted(rows) if name.startswith("y")]
        assert [each.shape for each in given] == [each.shape for each in wanted], path
        same = all(numpy.allclose(a, b, tolerance, tolerance / 10) for a, b in zip(given, wanted))
        whole = not rows["compiled"] or model.compiled and model.optimizer is not None
        state = "same" if same and whole else f"other: {given}, {wanted}, {whole}"
        states.append(f"{path.stem} {state}")
    tops = ("autokeras", "nas", "cerebros_spark")
    own = [name for name in sys.modules if name.split(".")[0] in tops]
    print(json.dumps([*states, f"imported {own}"]), flush=True)
    keras.backend.clear_session()
"""


@functools.cache
def _fresh_process() -> tuple[subprocess.Popen[str], IO[str]]:
    """A process that has Keras and nothing else, and its errors.

    One for all models: to start it takes longer than to load them.
    """
    errors = tempfile.TemporaryFile("w+")  # noqa: SIM115 - as long as the process
    process = subprocess.Popen(
        [sys.executable, "-c", _FRESH_PROCESS],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=errors,
        text=True,
        cwd=Path(__file__).parent,
    )
    atexit.register(_end)
    return process, errors


def _end() -> None:
    """The next model is loaded by another process."""
    process, _ = _fresh_process()
    _fresh_process.cache_clear()
    process.kill()
    process.communicate()


def keep(folder: Path, name: str, model: keras.Model, x: list[np.ndarray]) -> None:
    """Saves a model, and what it says to rows."""
    stem = name.replace(" ", "_").replace(",", "")
    model.save(folder / f"{stem}.keras")
    eagerly, model.run_eagerly = model.run_eagerly, True  # as the fresh process does
    outputs = model.predict(x if len(x) > 1 else x[0], batch_size=64, verbose=0)
    model.run_eagerly = eagerly
    outputs = outputs if isinstance(outputs, list) else [outputs]
    arrays = {f"x{i}": each for i, each in enumerate(x)}
    arrays |= {f"y{i}": each for i, each in enumerate(outputs)}
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
    process, errors = _fresh_process()
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        process.stdin.write(f"{asked}\n")
        process.stdin.flush()
        line = process.stdout.readline()
    finally:
        errors.seek(0)
        words = errors.read()
        # A custom module may have registered objects with Keras.
        if custom or not line:
            _end()
    assert line, words[-3000:]
    names = [path.stem for path, _ in saved]
    line = json.loads(line)
    assert line == [*(f"{name} same" for name in names), "imported []"], line
