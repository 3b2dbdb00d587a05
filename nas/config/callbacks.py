"""What is given as callbacks: those that trials call, and those that look on."""

from __future__ import annotations

from typing import Any

import keras

from cerebros_spark.training.keras.callbacks import check_callbacks, need_model
from nas.monitoring.learning_rate import LearningRateLog
from nas.monitoring.observer import SearchObserver
from nas.monitoring.tensorboard import TensorBoardObserver


def called_and_watching(
    callbacks: Any,
) -> tuple[tuple[keras.callbacks.Callback, ...], tuple[SearchObserver, ...]]:
    """Callbacks of which each trial has its own, and what looks on at the whole search.

    Args:
        callbacks: What the user gave: one, several or None.

    Raises:
        ArgumentError: If one can't be used; the message names it.
    """
    if callbacks is None:
        return (), ()
    called: list[Any] = []
    watchers: list[SearchObserver] = []
    for each in callbacks if isinstance(callbacks, list | tuple) else [callbacks]:
        if isinstance(each, SearchObserver):
            watchers.append(each)
        # A class derived from it may do anything: it is looked at as any callback is.
        elif type(each) is keras.callbacks.TensorBoard:
            watchers.append(TensorBoardObserver(each))
        else:
            called.append(each)
    checked = check_callbacks(called)
    writes = any(isinstance(each, TensorBoardObserver) for each in watchers)
    if writes and need_model(checked):
        # First, so that it sees the rate before another changes it for the next epoch.
        checked = (LearningRateLog(), *checked)
    return checked, tuple(watchers)
