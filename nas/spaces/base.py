"""The space room's door: where candidates come from."""

from __future__ import annotations

from typing import Any, Protocol


class Space(Protocol):
    """Makes a network of hyperparameter values."""

    def build(self, hp: Any) -> Any:
        """A compiled ``keras.Model`` for the values in a ``keras_tuner.HyperParameters``.

        A hyperparameter that is not there yet is registered with its default.
        """
