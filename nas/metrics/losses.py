"""Lookup of built-in losses, given by name, as a function or as an object."""

from __future__ import annotations

import functools
from typing import Any

import keras

from cerebros_spark.compat.keras import function_arguments

# Names as :func:`get_loss_name` returns them.
BINARY = frozenset({"binarycrossentropy", "binaryfocalcrossentropy"})
CATEGORICAL = frozenset(
    {
        *("categoricalcrossentropy", "categoricalfocalcrossentropy", "categoricalhinge"),
        *("categoricalgeneralizedcrossentropy", "kldivergence"),
    }
)
SPARSE = frozenset({"sparsecategoricalcrossentropy"})
HINGE = frozenset({"hinge", "squaredhinge"})

# Names for which Keras selects one of three crossentropies by the shapes of outputs and labels.
_CROSSENTROPY = ("crossentropy", "ce")


@functools.cache
def _get_classes() -> dict[str, Any]:
    members = [getattr(keras.losses, name) for name in dir(keras.losses)]
    return {member.__name__.lower(): member for member in members if isinstance(member, type)}


def get_loss_name(loss: Any) -> str | None:
    """Return a built-in loss's name in lower case without underscores.

    The name is the same whether the loss is given by name, as a function or as an object. Return
    None if the loss is not built in.
    """
    if isinstance(loss, str):
        if loss.lower() in _CROSSENTROPY:
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


def get_loss(loss: Any) -> Any:
    """Return the loss object for a built-in loss that is given by name or as a function.

    A loss object, a custom function and None are returned unchanged. None is also returned if Keras
    has no class for the loss.
    """
    if isinstance(loss, keras.losses.Loss) or loss is None:
        return loss
    name = get_loss_name(loss)
    if name is None:
        return None if isinstance(loss, str) else loss
    kind = _get_classes().get(name)
    return None if kind is None else kind()


def expects_logits(loss: Any) -> bool:
    """Return whether a loss expects logits; always False if it is not a loss object."""
    if not isinstance(loss, keras.losses.Loss):
        return False
    arguments = function_arguments(loss)
    return bool(arguments.get("from_logits", getattr(loss, "from_logits", False)))


def get_loss_title(loss: Any) -> str:
    """Return a loss's name for messages, as the user wrote it or as Keras spells its class."""
    kind = _get_classes().get(get_loss_name(loss) or "")
    if isinstance(loss, str) or kind is None:
        return repr(loss) if isinstance(loss, str) else str(getattr(loss, "__name__", loss))
    return str(kind.__name__)
