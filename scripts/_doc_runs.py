"""Runs the blocks of documents and the examples, with short searches."""

from __future__ import annotations

import contextlib
import os
import runpy
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest import mock

from _documents import ROOT, Block, Document, commands

TRIALS, EPOCHS = 1, 1


def run_document(document: Document) -> Iterator[tuple[Block, str, float]]:
    """Run the blocks of a document in one empty folder, in order, sharing their names.

    Yields:
        Block, its traceback (empty if it succeeded), and seconds.
    """
    names: dict[str, Any] = {"__name__": "document"}
    with in_empty_folder(), short_searches():
        for block in document.blocks:
            if block.language == "text":
                continue
            began = time.monotonic()
            fault = "" if block.reason else _run_block(block, names)
            yield block, fault, time.monotonic() - began


def run_example(path: Path) -> str:
    """Run an example; return its traceback, empty if it succeeded."""
    with in_empty_folder(), short_searches():
        try:
            runpy.run_path(str(path), run_name="__main__")
        except Exception:
            return traceback.format_exc()
    return ""


def _run_block(block: Block, names: dict[str, Any]) -> str:
    try:
        exec(compile(block.given, f"{block.place} (given)", "exec"), names)
        if block.language == "python":
            exec(compile(block.text, block.place, "exec"), names)
        for words in commands(block):
            _run_command(words)
    except Exception:
        return traceback.format_exc()
    return ""


def _run_command(words: list[str]) -> None:
    if words[0] == "cerebros-spark":
        # In this process, where searches are short.
        from nas.cli.main import main

        code = main(words[1:])
    else:
        if words[0] == "python":
            words = [sys.executable, *words[1:]]
        words = [str(ROOT / word) if word.startswith("scripts/") else word for word in words]
        path = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
        code = subprocess.run(words, env={**os.environ, "PYTHONPATH": path}).returncode
    if code:
        raise RuntimeError(f"{' '.join(words)} ended with {code}")


@contextlib.contextmanager
def in_empty_folder() -> Iterator[None]:
    """Change to an empty temporary folder within the block."""
    before = os.getcwd()
    with tempfile.TemporaryDirectory(prefix="documents-", ignore_cleanup_errors=True) as folder:
        os.chdir(folder)
        try:
            yield
        finally:
            os.chdir(before)


@contextlib.contextmanager
def short_searches() -> Iterator[None]:
    """Limit every search to one trial of one epoch, with tiny Cerebros networks.

    The check is whether the code of the documents runs, not what it finds.
    """
    from nas import CerebrosSpace, HyperHyperModel
    from nas.config.tuner import bind_tuner

    configure, post_init = HyperHyperModel._configure, CerebrosSpace.__post_init__

    def limited_config(self: Any, *more: Any, **options: Any) -> Any:
        return configure(self, *more, **{**options, "epochs": EPOCHS})

    def limited_tuner(tuner: Any, objective: Any, _: Any, *more: Any, **most: Any) -> Any:
        return bind_tuner(tuner, objective, TRIALS, *more, **most)

    def tiny_space(self: CerebrosSpace) -> None:
        post_init(self)
        for name, value in _TINY.items():
            object.__setattr__(self, name, value)

    with (
        mock.patch.object(HyperHyperModel, "_configure", limited_config),
        mock.patch("nas.hyperhypermodel.bind_tuner", limited_tuner),
        mock.patch.object(CerebrosSpace, "__post_init__", tiny_space),
    ):
        yield


_TINY = {
    "minimum_levels": 1,
    "maximum_levels": 1,
    "minimum_units_per_level": 1,
    "maximum_units_per_level": 2,
    "minimum_neurons_per_unit": 1,
    "maximum_neurons_per_unit": 3,
    "predecessor_level_connection_affinity_factor_first": 1.0,
    "predecessor_level_connection_affinity_factor_main": 1.0,
    "num_lateral_connection_tries_per_unit": 1,
}
