"""What a search draws its networks from."""

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
    """A network that was serialized without being built.

    Attributes:
        program: Its program, as ``serialize_model`` returns it.
        weights: Its initial weights, in Keras' order.
        trainable: For each weight, whether it is trained.
        optimizer: The configuration of its optimizer.
        parameters: Number of its weights.
    """

    program: str
    weights: tuple[np.ndarray, ...]
    trainable: tuple[bool, ...]
    optimizer: Mapping[str, Any]
    parameters: int


class Space(abc.ABC):
    """A space of networks."""

    @abc.abstractmethod
    def build(self, hp: Any) -> Any:
        """Return a compiled ``keras.Model`` for hyperparameter values.

        Args:
            hp: A ``keras_tuner.HyperParameters``. A hyperparameter that is missing in it is
                registered with its default.
        """

    def serialize(
        self, hp: Any, class_weight: Mapping[int, float] | None = None
    ) -> SerializedNetwork | None:
        """Return the network that :meth:`build` returns, without building it.

        Args:
            hp: As for :meth:`build`.
            class_weight: Weight of each class in the training loss, as in ``keras.Model.fit``.

        Returns:
            The network, with the same initial weights; None if it must be built.
        """
        return None

    def sample_plans(self, count: int) -> Iterable[NetworkFuture]:
        """Return the plans of some random networks; none if the space does not plan networks."""
        return ()
