"""Callbacks passed to ``fit``: Keras callbacks of the trials, and observers of the search."""

from __future__ import annotations

from typing import Any

import keras

from cerebros_spark.training.keras.callbacks import check_callbacks, need_model
from nas.monitoring.observer import SearchObserver
from nas.monitoring.tensorboard import LearningRateLog, TensorBoardObserver


def split_callbacks(
    callbacks: Any,
) -> tuple[tuple[keras.callbacks.Callback, ...], tuple[SearchObserver, ...]]:
    """Split callbacks into Keras callbacks, which each trial copies, and observers of the search.

    ``callbacks`` is None, a callback, or a list of callbacks and observers.

    Raises ArgumentError for a callback that cannot be used.
    """
    if callbacks is None:
        return (), ()
    trial_callbacks: list[Any] = []
    observers: list[SearchObserver] = []
    for each in callbacks if isinstance(callbacks, list | tuple) else [callbacks]:
        if isinstance(each, SearchObserver):
            observers.append(each)
        # A subclass may do anything, so it is checked like other callbacks.
        elif type(each) is keras.callbacks.TensorBoard:
            observers.append(TensorBoardObserver(each))
        else:
            trial_callbacks.append(each)
    checked = check_callbacks(trial_callbacks)
    uses_tensorboard = any(isinstance(each, TensorBoardObserver) for each in observers)
    if uses_tensorboard and need_model(checked):
        # First, to read the rate before another callback changes it for the next epoch.
        checked = (LearningRateLog(), *checked)
    return checked, tuple(observers)
