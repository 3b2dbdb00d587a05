from __future__ import annotations

import os
import random
import subprocess
import sys

import numpy as np
import pytest

from cerebros_spark.core.seeding import derive_seed

NAMES = [(), (1,), ("1",), ("trial-0003", "epoch", 4, "partition", 1), ("größe", "a\x1fb")]


@pytest.mark.parametrize(
    ("seed", "names", "value"),
    [
        (0, (), 1609362278),
        (7, ("tuner",), 634073817),
        (7, ("trial-0003", "epoch", 4, "partition", 1), 1716249866),
        (2**31 - 1, ("weights",), 2829096304),
    ],
)
def test_streams_never_change(seed, names, value):
    # These numbers are a promise: with others, earlier searches can't be repeated.
    assert derive_seed(seed, *names) == value


@pytest.mark.parametrize("hash_seed", ["0", "1", "random"])
def test_streams_are_the_same_in_every_process(hash_seed):
    code = (
        "from cerebros_spark.core.seeding import derive_seed as derive_seed; "
        f"print([derive_seed(3, *n) for n in {NAMES!r}])"
    )
    output = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONHASHSEED": hash_seed},
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert output.strip() == str([derive_seed(3, *names) for names in NAMES])


def test_every_part_of_a_name_counts():
    streams = [
        derive_seed(0),
        derive_seed(1),
        derive_seed(-1),
        derive_seed(0, 1),
        derive_seed(0, "1"),
        derive_seed(0, 0, 1),
        derive_seed(0, "0", 1),
        derive_seed(0, "a", "b"),
        derive_seed(0, "b", "a"),
        derive_seed(0, "ab"),
        derive_seed(0, "a", "b", ""),
        derive_seed(0, "a\x1f'b'"),
    ]
    assert len(set(streams)) == len(streams)


def test_names_that_hold_the_separator_are_not_confused():
    assert derive_seed(0, "a\x1fb") != derive_seed(0, "a", "b")
    assert derive_seed(0, "a'\x1f'b") != derive_seed(0, "a", "b")


def test_a_numpy_integer_is_the_same_seed():
    assert derive_seed(np.int64(7), "x") == derive_seed(7, "x")


def test_every_generator_takes_a_derived_seed():
    for number in range(100):
        seed = derive_seed(number, "stream")
        assert isinstance(seed, int)
        assert 0 <= seed < 2**32
        random.Random(seed)
        np.random.RandomState(seed)
        np.random.default_rng(seed)


def test_neighbouring_streams_are_unrelated():
    values = np.array([derive_seed(0, "partition", i) for i in range(2000)], float) / 2**32
    assert abs(values.mean() - 0.5) < 0.03
    assert abs(np.corrcoef(values[:-1], values[1:])[0, 1]) < 0.07
    assert len(set(values)) == 2000
