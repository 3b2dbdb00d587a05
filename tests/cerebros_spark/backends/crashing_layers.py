"""A layer that ends the process it is used in, but for the one it was made in."""

from __future__ import annotations

import os
from typing import Any

import keras


@keras.saving.register_keras_serializable("tests")
class Deadly(keras.layers.Layer):
    """What a network that is too large for a worker does to it."""

    def __init__(self, spared: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.spared = spared

    def call(self, inputs: Any) -> Any:
        if os.getpid() != self.spared:
            os._exit(137)
        return inputs

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "spared": self.spared}
