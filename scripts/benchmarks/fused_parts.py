#!/usr/bin/env python3
"""Where the time of Cerebros networks that train together goes, on one core.

Model-epochs a second for 1, 8, 32 and 128 networks, once all is compiled. Then an epoch's parts:
the optimizer is what Adam takes more than plain gradient descent, the forward pass what evaluating
the same rows takes, the rest is the backward pass. Beside them stands the least that they could
take: the multiplications of all matrix products at the pace of a large one, and the optimizer's
bytes at the pace of a copy.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

# The folder above holds what all scripts share.
sys.path.insert(0, str(Path(__file__).parents[1]))

import _common
import fused
import numpy as np

_TOGETHER = (1, 8, 32, 128)
_DISTINCT = 8  # networks; more are these again
_ADAM_BYTES = 7 * 4  # a weight, its gradient and two moments are read, three of them written


def main() -> None:
    """Runs the benchmark and prints its table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rows", type=int, default=2930, help="%(default)s")
    parser.add_argument("--width", type=int, default=38, help="columns (%(default)s)")
    parser.add_argument("--repeats", type=int, default=5, help="%(default)s")
    parser.add_argument("--json", metavar="FILE", help="write the figures there too")
    args = parser.parse_args()
    args.trials = _DISTINCT
    _common.prepare_environment()
    from cerebros_spark.training.keras.tensorflow_runtime import configure

    configure(1, None, False)
    _common.show("fused, parts", run(args), args.json)


def run(args: argparse.Namespace) -> list[tuple[str, Any, str]]:
    """Name, figure and unit."""
    from cerebros_spark.training.fused.trainer import FusedTrainer

    (x, y), _ = fused.table(args)
    shard = _common.Rows(x, y)
    rows: list[tuple[str, Any, str]] = []
    trainer = FusedTrainer()
    models = fused.networks(args)
    for many in _TOGETHER:
        train, _ = opened(trainer, models, many, shard)
        seconds = [each / many for each in timed(train, args.repeats)]
        pace = f"{1 / max(seconds):,.0f} to {1 / min(seconds):,.0f}"
        rows.append((f"{many} networks", 1 / statistics.median(seconds), f"epochs/s ({pace})"))
    train, evaluate = opened(trainer, models, _DISTINCT, shard)
    plain, _ = opened(FusedTrainer(), fused.networks(args, "sgd"), _DISTINCT, shard)
    epoch, descent, forward = (
        1e3 * statistics.median(timed(each, args.repeats)) / _DISTINCT
        for each in (train, plain, evaluate)
    )
    products, bytes_moved = counted(models, len(x))
    steps = -(-len(x) // fused.BATCH)
    return [
        *rows,
        ("an epoch", epoch, "ms"),
        ("of it the forward pass", forward, "ms"),
        ("of it the backward pass", descent - forward, "ms"),
        ("of it the optimizer", epoch - descent, "ms"),
        ("steps", steps, ""),
        ("floor of the matrix products", 1e3 * products / products_a_second(), "ms"),
        ("floor of the optimizer", 1e3 * steps * bytes_moved / bytes_a_second(), "ms"),
    ]


def opened(
    trainer: Any, models: list[Any], many: int, shard: Any
) -> tuple[Callable[[], Any], Callable[[], Any]]:
    """What trains, and what evaluates, so many networks for an epoch; both are compiled."""
    from cerebros_spark.core.types import TrialSpec
    from cerebros_spark.training.keras.checkpoint import get_initial_state
    from cerebros_spark.training.keras.serialization import serialize_model

    distinct = [(serialize_model(model), get_initial_state(model)) for model in models]
    chosen = [distinct[number % len(distinct)] for number in range(many)]
    specs = [
        TrialSpec(f"{many}-{number}", number, "fused", program, 0, 1, fused.BATCH)
        for number, (program, _) in enumerate(chosen)
    ]
    program = trainer.open(specs)
    program.load([state for _, state in chosen])

    def train() -> None:
        program.train(shard, range(many))

    def evaluate() -> None:
        program.evaluate(shard)

    train()
    evaluate()
    return train, evaluate


def timed(work: Callable[[], Any], repeats: int) -> list[float]:
    """Seconds of each time."""
    told = []
    for _ in range(repeats):
        began = time.perf_counter()
        work()
        told.append(time.perf_counter() - began)
    return told


def counted(models: list[Any], rows: int) -> tuple[float, float]:
    """Multiplications of an epoch of one network, and bytes of a step's optimizer."""
    kernels = [
        sum(int(np.prod(w.shape)) for w in model.trainable_variables if w.path.endswith("kernel"))
        for model in models
    ]
    weights = [sum(int(np.prod(w.shape)) for w in model.trainable_variables) for model in models]
    # Forward, and backward for weights and for inputs.
    return 3 * rows * statistics.fmean(kernels), _ADAM_BYTES * statistics.fmean(weights)


def products_a_second(size: int = 1024) -> float:
    """Multiplications a second in a large product of matrices."""
    import tensorflow as tf

    some = tf.ones((size, size))
    return size**3 / min(timed(lambda: (some @ some).numpy()[0, 0], 5))


def bytes_a_second(size: int = 2**26) -> float:
    """Bytes a second that a copy reads and writes."""
    some, other = np.ones(size, np.uint8), np.ones(size, np.uint8)
    return 2 * size / min(timed(lambda: np.copyto(other, some), 5))


if __name__ == "__main__":
    sys.path.insert(0, os.path.dirname(__file__))
    main()
