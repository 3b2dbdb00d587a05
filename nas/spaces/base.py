"""Base class of search spaces, and the form of networks serialized without being built."""

from __future__ import annotations

import abc
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from nas.spaces.cerebros.plan import NetworkFuture


@dataclass(frozen=True)
class SerializedNetwork:
    """Network that was serialized without being built in Keras.

    Attributes:
        program: Architecture and training settings as JSON, as ``serialize_model`` returns them.
        weights: Initial weight arrays, in the order of ``keras.Model.weights``.
        trainable: Whether each weight array is trainable, in the same order.
        optimizer: Keras configuration of the optimizer.
        parameters: Total number of weight values, including those that are not trainable.
    """

    program: str
    weights: tuple[np.ndarray, ...]
    trainable: tuple[bool, ...]
    optimizer: Mapping[str, Any]
    parameters: int


class Space(abc.ABC):
    """Search space of networks."""

    @abc.abstractmethod
    def build(self, hp: Any) -> Any:
        """Build a compiled ``keras.Model`` from hyperparameter values.

        Args:
            hp: A ``keras_tuner.HyperParameters`` with the values. Missing hyperparameters are
                registered with their defaults.

        Returns:
            The ``keras.Model``.
        """

    def serialize(
        self, hp: Any, class_weight: Mapping[int, float] | None = None
    ) -> SerializedNetwork | None:
        """Serialize the network that :meth:`build` returns, without building it.

        Args:
            hp: As for :meth:`build`.
            class_weight: Weight of each class in the training loss, by class index; missing
                classes have weight 1. None if all classes have weight 1.

        Returns:
            The network, with the initial weights that :meth:`build` would create. None if the
            network can be serialized only after it is built, as in this base class.
        """
        return None

    @property
    def gradient_scale(self) -> float:
        """Factor that makes the loss's gradient independent of the label's unit of measurement.

        It is 1 if the gradient need not be scaled.
        """
        return 1.0

    @property
    def points(self) -> list[dict[str, Any]]:
        """Configurations to begin a ``"portfolio"`` search with, best first; empty if unknown."""
        return []

    def sample_plans(self, count: int) -> Iterable[NetworkFuture]:
        """Return the plans of ``count`` random networks; empty if the space has no plans."""
        return ()
