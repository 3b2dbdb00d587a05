"""Dropout rates and weight decay that decrease over a trial's training steps."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import keras

from cerebros_spark.compat import keras as compat
from cerebros_spark.training.keras.dropout_masks import drop
from cerebros_spark.training.keras.optimizer_support import flatten_optimizer
from cerebros_spark.training.keras.schedules import CosLog4


class FadingRegularization:
    """Dropout rates and weight decay that follow the schedule of a model's optimizer.

    The model does not change unless its optimizer has a ``CosLog4`` schedule with ``fades=True``.

    Args:
        model: Compiled model, not yet traced.
    """

    def __init__(self, model: Any) -> None:
        self._fading = []
        for part in flatten_optimizer(model.optimizer):
            schedule = compat.learning_rate_argument(part)
            if isinstance(schedule, CosLog4) and schedule.fades:
                self._fading.append((part, schedule))
        if not self._fading:
            return
        part, schedule = self._fading[0]
        for layer in compat.flatten_layers(model):
            if type(layer) is keras.layers.Dropout and 0 < layer.rate < 1:
                layer.call = _make_call(layer, lambda: schedule.get_regularization(part.iterations))

    @contextlib.contextmanager
    def step(self) -> Iterator[None]:
        """Return a context manager in which steps run or traced use the scheduled weight decay."""
        decays = [part.weight_decay for part, _ in self._fading]
        for part, schedule in self._fading:
            if part.weight_decay is not None:
                part.weight_decay = part.weight_decay * schedule.get_regularization(part.iterations)
        try:
            yield
        finally:
            for (part, _), decay in zip(self._fading, decays, strict=True):
                part.weight_decay = decay


def _make_call(layer: Any, get_factor: Callable[[], Any]) -> Callable[..., Any]:
    """Return a ``call`` method for a Dropout layer that multiplies its rate by ``get_factor()``."""

    def call(inputs: Any, training: bool = False) -> Any:
        if not training:
            return inputs
        return drop(layer, inputs, layer.rate * get_factor())

    return call
