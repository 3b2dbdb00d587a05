"""Every loss of Keras on every form of labels: it suits them, or is refused."""

from __future__ import annotations

import keras
import pytest

from cerebros_spark.core.errors import ArgumentError
from nas.metrics.labels import infer_form
from nas.metrics.loss_checks import check_loss
from tests.nas.metrics.cases import CASES, TABLE, Case, form

_OF_NUMBERS = {
    *("MeanSquaredError", "MeanAbsoluteError", "MeanAbsolutePercentageError", "Poisson"),
    *("MeanSquaredLogarithmicError", "Huber", "LogCosh", "Dice", "Tversky", "Loss"),
}
_BINARY = {"BinaryCrossentropy", "BinaryFocalCrossentropy"}
_HINGES = {"Hinge", "SquaredHinge"}
_ONE_HOT = {
    *("CategoricalCrossentropy", "CategoricalFocalCrossentropy", "CategoricalHinge"),
    *("KLDivergence", "CosineSimilarity"),
}
_ALL = _OF_NUMBERS | _BINARY | _HINGES
SUITED = {
    "class indices": {"SparseCategoricalCrossentropy"},
    "two class indices": {"SparseCategoricalCrossentropy"},
    "one-hot": _ALL | _ONE_HOT,
    "binary one-hot": _ALL | _ONE_HOT,
    "binary": _ALL,
    "multi-label": _ALL | {"CosineSimilarity"},
    "number": _OF_NUMBERS,
    "numbers": _OF_NUMBERS | {"CosineSimilarity"},
}


@pytest.mark.parametrize("case", CASES.values(), ids=lambda case: case.name)
def test_every_loss_suits_its_labels_or_is_refused(case: Case):
    found = set()
    every = {name: getattr(keras.losses, name) for name in dir(keras.losses)}
    for name, kind in every.items():
        if not isinstance(kind, type):
            continue
        loss = kind()
        try:
            check_loss(loss, infer_form("out", case.form.labels, case.width, case.activation, loss))
        except ArgumentError as error:
            words = str(error)
            assert f"cannot use the loss {name} for the output 'out': it needs " in words
            assert "; use " in words
            assert len(words) < 320, words
        else:
            found.add(name)
            if name in TABLE and case.name in TABLE[name].cases:
                value = float(loss(case.y.astype("float32"), case.p))
                sign = -1 if name == "CosineSimilarity" else 1
                assert sign * value == pytest.approx(TABLE[name].value(case), rel=1e-3)
    assert found == SUITED[case.name] & set(every) | (found & {"Loss"})


def test_losses_by_name_and_as_functions():
    case = CASES["class indices"]
    for loss in (
        *("categorical_crossentropy", "mse", "kl_divergence", "KLDivergence"),
        *(keras.losses.kl_divergence, keras.losses.get("CategoricalHinge")),
    ):
        with pytest.raises(ArgumentError, match="holds class indices; use SparseCategorical"):
            check_loss(loss, case.form)
    for loss in ("sparse_categorical_crossentropy", "crossentropy", "ce", lambda y, p: p):
        check_loss(loss, case.form)
    with pytest.raises(ArgumentError, match=r"one class a row, .* use BinaryCrossentropy"):
        check_loss("crossentropy", CASES["multi-label"].form)
    with pytest.raises(ArgumentError, match=r"outputs between 0 and 1, .* from_logits=True"):
        check_loss("binary_crossentropy", form([[0], [1]], 1, "linear", "binary_crossentropy"))
