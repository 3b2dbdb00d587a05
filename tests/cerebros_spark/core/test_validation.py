from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest

from cerebros_spark.core.errors import ArgumentError
from cerebros_spark.core.validation import check_integer, check_optional_integer, check_real


@pytest.mark.parametrize("value", [2, np.int64(2), np.uint8(2), np.array(2)])
def test_integers_of_any_kind_become_ints(value):
    assert check_integer("epochs", value, 1) == 2
    assert type(check_integer("epochs", value, 1)) is int
    assert check_optional_integer("epochs", value) == 2


@pytest.mark.parametrize("value", [True, np.True_, 2.0, np.float32(2), "2", None, np.array([2])])
def test_other_values_are_refused_by_name(value):
    with pytest.raises(ArgumentError, match=r"^seed must be an integer, but got"):
        check_integer("seed", value)


@pytest.mark.parametrize(
    ("bounds", "message"),
    [
        ((4,), "an integer of at least 4"),
        ((1, None), "x must be an integer of at least|a positive integer"),
        ((0, 2), "an integer from 0 to 2"),
    ],
)
def test_bounds_are_named(bounds, message):
    with pytest.raises(ArgumentError, match=message):
        check_integer("x", {4: 3, 1: 0, 0: 3}[bounds[0]], *bounds)


def test_optional_integers_may_be_none():
    assert check_optional_integer("max_trials", None, 1) is None
    with pytest.raises(ArgumentError, match=r"max_trials must be a positive integer, but got 0"):
        check_optional_integer("max_trials", 0, 1)


def test_real_numbers():
    assert check_real("rate", np.float32(0.5)) == 0.5
    assert check_real("rate", Fraction(1, 2), 0, 1) == 0.5
    for value in (True, "1", float("nan"), -1, np.inf):
        with pytest.raises(ArgumentError, match=r"rate must be a finite number"):
            check_real("rate", value)
