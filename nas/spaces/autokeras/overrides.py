"""What a graph's blocks are told when they ask for a hyperparameter."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import keras_tuner
from autokeras.blocks.basic import PRETRAINED


@contextlib.contextmanager
def overridden(hp: Any) -> Iterator[None]:
    """Has the user's word count before that of blocks, for as long as it is open.

    A hyperparameter that was declared outside of any condition is not declared again under one: it
    would be drawn after all, since KerasTuner tells hyperparameters apart by their conditions, too.

    Whether weights are downloaded is not searched: a worker may have no internet, and what comes
    can't be seen in the space. It takes ``pretrained=True`` at the block, or an override.

    Args:
        hp: A ``keras_tuner.HyperParameters``.
    """
    exists, retrieve = hp._exists, hp._retrieve

    def existing(name: str, conditions: Any = None) -> bool:
        return exists(name, conditions) or exists(name, [])

    def retrieved(asked: Any) -> Any:
        if asked.name.split("/")[-1] == PRETRAINED and not existing(asked.name, asked.conditions):
            asked = keras_tuner.engine.hyperparameters.Fixed(
                asked.name, False, conditions=asked.conditions
            )
        return retrieve(asked)

    hp._exists, hp._retrieve = existing, retrieved
    try:
        yield
    finally:
        del hp._exists, hp._retrieve
