#!/usr/bin/env python3
"""Resident memory of one process over many small trials, driver and workers together."""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from typing import Any

import _bench
import numpy as np
import psutil


def main() -> None:
    """Runs searches one after another and prints the memory after each."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trials", type=int, default=200)
    parser.add_argument("--steps", type=int, default=5, help="how often memory is read")
    parser.add_argument("--json", metavar="FILE", help="write the figures there too")
    args = parser.parse_args()
    _bench.prepare_environment()
    import autokeras as ak

    from cerebros_spark import LocalBackend, LocalStore
    from nas import CerebrosSpace, HyperHyperModel

    rng = np.random.default_rng(0)
    x = rng.normal(size=(200, 5))
    y = x[:, 0] + x[:, 1]
    each = args.trials // args.steps
    rows: list[tuple[str, Any, str]] = []
    with tempfile.TemporaryDirectory() as folder:
        for step in range(args.steps):
            search = HyperHyperModel(
                ak.Input(), ak.RegressionHead(), seed=step, space=CerebrosSpace(maximum_levels=2)
            )
            search.resource_bind(backend=LocalBackend(num_workers=2), store=LocalStore(folder))
            search.tuner_bind("random", max_trials=each)
            search.fit(x, y, epochs=1, verbose=0)
            resident = psutil.Process().memory_info().rss / 2**20
            rows.append((f"resident after {each * (step + 1)} trials", resident, "MiB"))
    _bench.show("memory", rows, args.json)


if __name__ == "__main__":
    sys.path.insert(0, os.path.dirname(__file__))
    main()
