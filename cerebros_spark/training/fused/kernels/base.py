"""What trains networks asks of them: the way through and the way back."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Protocol

from cerebros_spark.training.fused.graph.wiring import Wiring

#: Tensors by name.
Tensors = Mapping[str, Any]

#: Takes the gradient of the raw outputs to the gradients of the weights by name.
WeightsBack = Callable[[Any], dict[str, Any]]


class Passes(Protocol):
    """Networks of one recipe in one shape."""

    moments: int
    """How many moments of each kind a step has."""

    def wired(self, wiring: Wiring) -> Any:
        """Makes ready what does not change from step to step."""

    def trained(
        self, weights: Tensors, wired: Any, x: Any, counts: Any, noise: tuple[Any, Any]
    ) -> tuple[Any, Any, WeightsBack]:
        """The raw outputs in training, the moments of the batch, and the way back.

        Args:
            weights: ``kernel``, ``gamma``, ``beta``, ``bias``, and the same of the outputs.
            wired: What :meth:`wired` has given.
            x: The rows, of shape ``(batch, inputs)``.
            counts: 1 for a row that is there, 0 for one that fills up the batch: ``(batch,)``.
            noise: What chance is drawn from, if any: a seed and the number of the step.

        Returns:
            What each output's unit made of all it read, ``(outputs, width, batch)``; means and
            variances, ``(2, moments)``; what takes the gradient of the first to the weights'.
        """

    def folded(self, weights: Tensors, moving: Tensors, wired: Any) -> Any:
        """The weights for inference."""

    def inferred(self, folded: Any, wired: Any, x: Any) -> Any:
        """The raw outputs in inference."""

    def moved(self, moving: Tensors, wiring: Wiring, added: Any, kept: Any) -> dict[str, Any]:
        """The moving statistics after some steps.

        Args:
            moving: What they were before.
            wiring: The wiring.
            added: What the steps' moments add up to, the earlier ones faded.
            kept: What remains of a statistic after as many steps.
        """
