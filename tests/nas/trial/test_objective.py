from __future__ import annotations

import keras_tuner
import pytest

from cerebros_spark.core.errors import ArgumentError
from nas.trial.objective import is_better, parse_objective


@pytest.mark.parametrize(
    ("name", "direction"),
    [
        ("val_loss", "min"),
        ("loss", "min"),
        ("val_mae", "min"),
        ("val_mean_squared_error", "min"),
        ("val_root_mean_squared_error", "min"),
        ("price_loss", "min"),
        ("val_accuracy_loss", "min"),
        ("val_false_positives", "min"),
        ("val_binary_crossentropy", "min"),
        ("val_accuracy", "max"),
        ("val_auc", "max"),
        ("val_auc_1", "max"),
        ("val_sold_AUC", "max"),
        ("val_r2_score", "max"),
        ("val_f1_score", "max"),
        ("val_precision", "max"),
        ("val_recall", "max"),
        ("val_true_positives", "max"),
    ],
)
def test_the_direction_is_known_from_the_name(name, direction):
    objective = parse_objective(name)
    assert objective.name == name
    assert objective.direction == direction


@pytest.mark.parametrize("direction", ["min", "max"])
def test_an_objective_keeps_its_direction(direction):
    given = keras_tuner.Objective("val_loss", direction)
    assert parse_objective(given) is given


def test_an_unknown_name_asks_for_a_direction():
    with pytest.raises(ArgumentError, match=r"'val_bliss' is not known.*Objective\('val_bliss'"):
        parse_objective("val_bliss")


def test_a_wrong_direction_is_refused():
    with pytest.raises(ArgumentError, match="'up', not min or max"):
        parse_objective(keras_tuner.Objective("val_loss", "up"))


def test_several_objectives_are_refused():
    with pytest.raises(ArgumentError, match="there must be one objective, but got 2"):
        parse_objective(["val_loss", "val_accuracy"])


@pytest.mark.parametrize("value", [None, 3, len])
def test_anything_else_is_refused(value):
    with pytest.raises(ArgumentError, match="must be a metric's name or an Objective"):
        parse_objective(value)


def test_better_follows_the_direction():
    least, most = parse_objective("val_loss"), parse_objective("val_auc")
    assert is_better(least, 1.0, 2.0)
    assert not is_better(least, 2.0, 1.0)
    assert is_better(most, 2.0, 1.0)
    assert not is_better(most, 1.0, 2.0)
    for objective in (least, most):
        assert not is_better(objective, 1.0, 1.0)
        assert is_better(objective, 1e300, None)
        for broken in (float("nan"), float("inf"), float("-inf")):
            assert not is_better(objective, broken, None)
            assert not is_better(objective, broken, 0.0)
