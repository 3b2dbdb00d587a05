#!/usr/bin/env python3
"""Measure how long ``import cerebros_spark`` and ``import nas`` take, in fresh processes."""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any

# The parent folder has the modules that all scripts share.
sys.path.insert(0, str(Path(__file__).parents[1]))

import _common

_CODE = "import time; t = time.perf_counter(); import {name}; print(time.perf_counter() - t)"


def main() -> None:
    """Run the benchmark and print its table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=7)
    parser.add_argument("--json", metavar="FILE", help="also write the figures to FILE")
    args = parser.parse_args()
    rows: list[tuple[str, Any, str]] = []
    for name in ("cerebros_spark", "nas", "json"):
        seconds = [measure_import(name) for _ in range(args.runs)]
        rows.append((f"import {name}, median", statistics.median(seconds), "s"))
        rows.append((f"import {name}, longest", max(seconds), "s"))
    _common.show("import", rows, args.json)


def measure_import(name: str) -> float:
    """Return the seconds of one import in its own process."""
    command = [sys.executable, "-c", _CODE.format(name=name)]
    return float(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)


if __name__ == "__main__":
    sys.path.insert(0, os.path.dirname(__file__))
    main()
