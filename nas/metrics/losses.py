"""Losses of Keras by one name each, however they are given."""

from __future__ import annotations

import functools
from typing import Any

import keras

# Names as :func:`loss_name` gives them.
BINARY = frozenset({"binarycrossentropy", "binaryfocalcrossentropy"})
CATEGORICAL = frozenset(
    {
        *("categoricalcrossentropy", "categoricalfocalcrossentropy", "categoricalhinge"),
        *("categoricalgeneralizedcrossentropy", "kldivergence"),
    }
)
SPARSE = frozenset({"sparsecategoricalcrossentropy"})
HINGE = frozenset({"hinge", "squaredhinge"})

#: Keras chooses one of three crossentropies by the shapes of outputs and labels.
_CHOSEN = ("crossentropy", "ce")


@functools.cache
def _classes() -> dict[str, Any]:
    every = [getattr(keras.losses, name) for name in dir(keras.losses)]
    return {each.__name__.lower(): each for each in every if isinstance(each, type)}


def loss_name(loss: Any) -> str | None:
    """Return the name of a loss of Keras, in lower case without underscores.

    It is the same for a loss by name, as a function and as an object; None for a custom loss.
    """
    if isinstance(loss, str):
        if loss.lower() in _CHOSEN:
            return "crossentropy"
        try:
            loss = keras.losses.get(loss)
        except ValueError:
            return None
    function = getattr(loss, "fn", None) if type(loss).__name__ == "LossFunctionWrapper" else loss
    kind = type(function) if isinstance(function, keras.losses.Loss) else function
    if not str(getattr(kind, "__module__", "")).startswith("keras."):
        return None
    return str(getattr(kind, "__name__", "")).replace("_", "").lower() or None


def loss_object(loss: Any) -> Any:
    """Return a loss as an object, also where it is given by name or as a function of Keras.

    None where Keras has no class for it; a custom loss as it is.
    """
    if isinstance(loss, keras.losses.Loss) or loss is None:
        return loss
    name = loss_name(loss)
    if name is None:
        return None if isinstance(loss, str) else loss
    kind = _classes().get(name)
    return None if kind is None else kind()


def has_logits(loss: Any) -> bool:
    """Return whether a loss of Keras expects outputs that no activation has been applied to."""
    found = loss if isinstance(loss, keras.losses.Loss) else None
    given = getattr(found, "_fn_kwargs", None) or {}
    return bool(given.get("from_logits", getattr(found, "from_logits", False)))


def loss_title(loss: Any) -> str:
    """Return the name under which a user knows a loss of Keras."""
    kind = _classes().get(loss_name(loss) or "")
    if isinstance(loss, str) or kind is None:
        return repr(loss) if isinstance(loss, str) else str(getattr(loss, "__name__", loss))
    return str(kind.__name__)
