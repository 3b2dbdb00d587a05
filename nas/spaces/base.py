"""Base class of search spaces, and networks serialized without being built."""

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
        program: Program in the format of ``serialize_model``.
        weights: Initial weights, in Keras order.
        trainable: Whether each weight is trainable.
        optimizer: Configuration of the optimizer.
        parameters: Number of parameters, including those that are not trainable.
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
        """

    def serialize(
        self, hp: Any, class_weight: Mapping[int, float] | None = None
    ) -> SerializedNetwork | None:
        """Serialize the network that :meth:`build` returns, without building it.

        Args:
            hp: As for :meth:`build`.
            class_weight: Weight of each class in the training loss, by class index; missing
                classes weigh 1.

        Returns:
            The network with the same initial weights; None if the network must be built.
        """
        return None

    @property
    def gradient_scale(self) -> float:
        """Constant by which the gradient of the loss is multiplied; 1 unless labels have units."""
        return 1.0

    @property
    def points(self) -> list[dict[str, Any]]:
        """Values with which a ``"portfolio"`` begins, best first; empty if none are known."""
        return []

    def sample_plans(self, count: int) -> Iterable[NetworkFuture]:
        """Return plans of ``count`` random networks; empty if the space does not plan networks."""
        return ()
