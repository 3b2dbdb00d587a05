"""Snapshots of Keras callbacks as JSON types, to describe callbacks and to resume runs."""

from __future__ import annotations

import functools
import logging
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from keras.callbacks import Callback

logger = logging.getLogger(__name__)

_PLAIN = (bool, int, float, str, type(None))
# The model and its settings, and what CSVLogger determines when it opens its file.
_OMITTED = ("params", "_model", "validation_data", "append", "append_header")
_NUMERIC_KINDS = "biuf"  # kinds of NumPy dtypes that are numbers in JSON
_NOT_PLAIN = object()


def describe_callbacks(callbacks: Sequence[Callback]) -> list[Any]:
    """Return each callback's class name, and its attributes that can be encoded as JSON types."""
    return [[type(each).__name__, _get_attributes(each)] for each in callbacks]


def take_snapshot(callback: Callback) -> dict[str, Any]:
    """Return the result of a callback's ``get_state()``, or its attributes if it has none.

    Attributes are encoded as JSON types. Those that cannot be encoded are omitted; for custom
    callbacks, a warning names them.
    """
    if hasattr(callback, "get_state"):
        snapshot: dict[str, Any] = callback.get_state()
        return snapshot
    snapshot = _get_attributes(callback)
    if not type(callback).__module__.startswith("keras."):
        for name in vars(callback).keys() - snapshot.keys() - set(_OMITTED):
            value = getattr(callback, name)
            if not callable(value):
                _warn_of_lost_attribute(type(callback).__name__, name, type(value).__name__)
    return snapshot


def restore_snapshot(callback: Callback, snapshot: Mapping[str, Any]) -> None:
    """Restore a snapshot from :func:`take_snapshot`, by ``set_state()`` if the callback has it."""
    if hasattr(callback, "set_state"):
        callback.set_state(snapshot)
        return
    for name, value in snapshot.items():
        setattr(callback, name, _decode(value))


def _get_attributes(callback: Callback) -> dict[str, Any]:
    encoded = {
        name: _encode(value) for name, value in vars(callback).items() if name not in _OMITTED
    }
    return {name: value for name, value in encoded.items() if value is not _NOT_PLAIN}


@functools.cache  # one warning per attribute
def _warn_of_lost_attribute(callback: str, attribute: str, kind: str) -> None:
    logger.warning(
        "callback attribute %s.%s is a %s and is not saved, so it starts from scratch when a run "
        "is resumed; add get_state() and set_state() to the callback to keep it",
        callback,
        attribute,
        kind,
    )


def _encode(value: Any) -> Any:
    """Return a value as JSON types, or ``_NOT_PLAIN`` if that is not possible."""
    if type(value) in _PLAIN:
        return value
    if isinstance(value, np.ndarray | np.generic):
        if value.dtype.kind not in _NUMERIC_KINDS:
            return _NOT_PLAIN
        kind = "array" if isinstance(value, np.ndarray) else "number"
        return {kind: value.tolist(), "dtype": str(value.dtype)}
    if type(value) in (list, tuple):
        items = [_encode(each) for each in value]
        if _NOT_PLAIN in items:
            return _NOT_PLAIN
        return items if isinstance(value, list) else {"tuple": items}
    if type(value) is dict:
        entries = [[_encode(key), _encode(each)] for key, each in value.items()]
        return _NOT_PLAIN if any(_NOT_PLAIN in entry for entry in entries) else {"dict": entries}
    return _NOT_PLAIN


def _decode(value: Any) -> Any:
    if isinstance(value, list):
        return [_decode(each) for each in value]
    if not isinstance(value, dict):
        return value
    if "array" in value:
        return np.asarray(value["array"], value["dtype"])
    if "number" in value:
        return np.dtype(value["dtype"]).type(value["number"])
    if "tuple" in value:
        return tuple(_decode(each) for each in value["tuple"])
    return {_decode(key): _decode(each) for key, each in value["dict"]}
