#!/usr/bin/env python3
"""Measure how much faster a search over Cerebros networks is than a Keras loop on two processes.

Both train the same number of networks of the published bounds on the same generated table, on two
cores. The search is the whole product: `HyperHyperModel` on Spark with two workers, from the
arrays to the leaderboard, with driver and Spark on the same cores; only the start of Spark is left
out. The loop is that of fused.py, in two processes at a time. Each trains the first --sample
networks for --loop-epochs epochs, and the result is scaled up to its half of all networks.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

# The parent folder has the modules that all scripts share.
sys.path.insert(0, str(Path(__file__).parents[1]))

import _common
import fused
import numpy as np


def main() -> None:
    """Run both sides and print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        parents=[_common.comparison_options()],
    )
    parser.add_argument(
        "--sample", type=int, default=3, help="networks that a loop trains (%(default)s)"
    )
    parser.add_argument(
        "--loop-epochs", type=int, default=5, help="epochs that a loop trains (%(default)s)"
    )
    parser.add_argument("--loop", type=int, help=argparse.SUPPRESS)  # which of the two loops to run
    args = parser.parse_args()
    _common.prepare_environment()
    if args.loop is not None:
        print(json.dumps(loop(args)))
        return
    _common.show("search", run(args), args.json)


def run(args: argparse.Namespace) -> list[tuple[str, Any, str]]:
    """Return the rows of the table."""
    spark = _common.session("local[2]")
    results = []
    for _ in range(args.repeats):
        with tempfile.TemporaryDirectory() as folder:
            seconds, report = search(args, spark, folder)
        results.append((seconds, loops(args), report))
    spark.stop()
    ratios = [plain / ours for ours, plain, _ in results]
    ours, plain = (statistics.median(each[i] for each in results) for i in (0, 1))
    report = results[-1][2]
    return [
        ("networks", args.trials, ""),
        ("epochs", args.epochs, ""),
        ("the search, in all", ours, "s"),
        ("the loops, in all", plain, "s"),
        ("loops / search, median", statistics.median(ratios), "times"),
        ("loops / search, least", min(ratios), "times"),
        ("loops / search, greatest", max(ratios), "times"),
        ("makespan / floor", report.makespan / report.floor, ""),
        ("busy share, least", min(report.busy), ""),
        ("units", report.units, ""),
    ]


def search(args: argparse.Namespace, spark: Any, folder: str) -> tuple[float, Any]:
    """Return the seconds of a search, and how busy its workers were."""
    import autokeras as ak

    from cerebros_spark import LocalStore, SparkBackend
    from nas import CerebrosSpace, HyperHyperModel

    (x, y), (held_x, held_y) = fused.table(args)
    x, y = np.concatenate([x, held_x]), np.concatenate([y, held_y])[:, 0]
    model = HyperHyperModel(
        inputs=ak.Input(),
        outputs=ak.RegressionHead(metrics=["root_mean_squared_error"]),
        space=CerebrosSpace.published(learning_rate=0.01),
        project_name="bench",
        seed=0,
    )
    model.resource_bind(
        backend=SparkBackend(spark.sparkContext, num_workers=2), store=LocalStore(folder)
    )
    model.tuner_bind("random", max_trials=args.trials)
    began = time.perf_counter()
    result = model.fit(
        x, y, epochs=args.epochs, batch_size=fused.BATCH, verbose=0,
        validation_split=fused.VALIDATED,
    )  # fmt: skip
    table = result.leaderboard()
    seconds = time.perf_counter() - began
    assert list(table["epochs"]) == [args.epochs] * args.trials
    return seconds, result.engine_report


def loops(args: argparse.Namespace) -> float:
    """Return the seconds of the slower of two loops that run at the same time."""
    command = [f"--{name}={getattr(args, name)}" for name in ("trials", "epochs", "rows", "width")]
    command += [f"--sample={args.sample}", f"--loop-epochs={args.loop_epochs}"]
    running = [
        subprocess.Popen(
            [sys.executable, __file__, *command, f"--loop={number}"],
            stdout=subprocess.PIPE,
            text=True,
        )
        for number in range(2)
    ]
    result = [process.communicate()[0] for process in running]
    return max(json.loads(text.splitlines()[-1]) for text in result)


def loop(args: argparse.Namespace) -> float:
    """Return the seconds that a loop takes for its half of the networks."""
    from cerebros_spark.training.keras.tensorflow_runtime import configure

    configure(1, None, False)
    args.trials, trials = args.sample, args.trials
    models = fused.networks(args)
    train, validation = fused.table(args)
    return fused.by_keras(args, models, train, validation) / args.sample * trials / 2


if __name__ == "__main__":
    sys.path.insert(0, os.path.dirname(__file__))
    main()
