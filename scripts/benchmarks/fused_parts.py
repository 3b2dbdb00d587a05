#!/usr/bin/env python3
"""Measure the parts of training Cerebros networks together, on one core.

First, epochs of networks per second for 1, 8, 32 and 128 networks, once all is compiled. Then the
parts of an epoch: the optimizer is the time of Adam beyond plain gradient descent, the forward
pass that of evaluating the same rows, and the rest is the backward pass. The floors are the
multiplications of all matrix products at the rate of a large one, and the optimizer's bytes at the
rate of a copy.
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

# The parent folder has the modules that all scripts share.
sys.path.insert(0, str(Path(__file__).parents[1]))

import _common
import fused
import numpy as np

_TOGETHER = (1, 8, 32, 128)
_DISTINCT = 8  # distinct networks; more networks repeat them
_ADAM_BYTES = 7 * 4  # a weight, its gradient and two moments are read; three of them are written


def main() -> None:
    """Run the benchmark and print its table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rows", type=int, default=2930, help="%(default)s")
    parser.add_argument("--width", type=int, default=38, help="columns (%(default)s)")
    parser.add_argument("--repeats", type=int, default=5, help="%(default)s")
    parser.add_argument("--json", metavar="FILE", help="also write the figures to FILE")
    args = parser.parse_args()
    args.trials = _DISTINCT
    _common.prepare_environment()
    from cerebros_spark.training.keras.tensorflow_runtime import configure

    configure(1, None, False)
    _common.show("fused, parts", run(args), args.json)


def run(args: argparse.Namespace) -> list[tuple[str, Any, str]]:
    """Return the rows of the table."""
    from cerebros_spark.training.fused.trainer import FusedTrainer

    (x, y), _ = fused.table(args)
    shard = _common.Rows(x, y)
    rows: list[tuple[str, Any, str]] = []
    trainer = FusedTrainer()
    models = fused.networks(args)
    for many in _TOGETHER:
        train, _ = compile_networks(trainer, models, many, shard)
        seconds = [each / many for each in time_calls(train, args.repeats)]
        pace = f"{1 / max(seconds):,.0f} to {1 / min(seconds):,.0f}"
        rows.append((f"{many} networks", 1 / statistics.median(seconds), f"epochs/s ({pace})"))
    train, evaluate = compile_networks(trainer, models, _DISTINCT, shard)
    plain, _ = compile_networks(FusedTrainer(), fused.networks(args, "sgd"), _DISTINCT, shard)
    epoch, descent, forward = (
        1e3 * statistics.median(time_calls(each, args.repeats)) / _DISTINCT
        for each in (train, plain, evaluate)
    )
    products, bytes_moved = count_operations(models, len(x))
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


def compile_networks(
    trainer: Any, models: list[Any], many: int, shard: Any
) -> tuple[Callable[[], Any], Callable[[], Any]]:
    """Return functions that train and evaluate ``many`` networks for an epoch, compiled."""
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


def time_calls(work: Callable[[], Any], repeats: int) -> list[float]:
    """Return the seconds of each call."""
    seconds = []
    for _ in range(repeats):
        began = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - began)
    return seconds


def count_operations(models: list[Any], rows: int) -> tuple[float, float]:
    """Return multiplications of an epoch of one network, and bytes of an optimizer step."""
    kernels = [
        sum(int(np.prod(w.shape)) for w in model.trainable_variables if w.path.endswith("kernel"))
        for model in models
    ]
    weights = [sum(int(np.prod(w.shape)) for w in model.trainable_variables) for model in models]
    # Forward, and backward for weights and for inputs.
    return 3 * rows * statistics.fmean(kernels), _ADAM_BYTES * statistics.fmean(weights)


def products_a_second(size: int = 1024) -> float:
    """Return multiplications per second in a large matrix product."""
    import tensorflow as tf

    some = tf.ones((size, size))
    return size**3 / min(time_calls(lambda: (some @ some).numpy()[0, 0], 5))


def bytes_a_second(size: int = 2**26) -> float:
    """Return bytes per second that a copy reads and writes."""
    some, other = np.ones(size, np.uint8), np.ones(size, np.uint8)
    return 2 * size / min(time_calls(lambda: np.copyto(other, some), 5))


if __name__ == "__main__":
    sys.path.insert(0, os.path.dirname(__file__))
    main()
