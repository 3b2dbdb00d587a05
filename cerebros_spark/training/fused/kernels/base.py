"""Protocol of the forward and backward passes of padded networks."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Protocol

from cerebros_spark.training.fused.graph.wiring import Wiring

#: Tensors by name: ``kernel (neurons, slots)``, ``bias (units, neurons)``, ``gamma (slots,)`` and
#: ``beta (slots,)``, or ``moving_mean (slots,)`` and ``moving_variance (slots,)``, and the same
#: of the outputs with the prefix ``output_``.
Tensors = Mapping[str, Any]

#: Takes the gradient of the raw outputs to those of the weights.
Backward = Callable[[Any], dict[str, Any]]


class NetworkKernel(Protocol):
    """The passes of one network, for a group configuration and a padded shape.

    All floating-point tensors have the group's dtype. ``prepared`` is what :meth:`prepare`
    returned.
    """

    moments: int
    """Number of means, and of variances, that a step returns."""

    def prepare(self, wiring: Wiring) -> Any:
        """Return what depends on the wiring only, once for all steps."""

    def train_forward(
        self, weights: Tensors, prepared: Any, x: Any, counts: Any, noise: tuple[Any, Any]
    ) -> tuple[Any, Any, Backward]:
        """Run the network in training.

        Args:
            weights: The trained weights.
            prepared: What depends on the wiring.
            x: Rows ``(batch, inputs)``.
            counts: 1 for a row, 0 for padding, ``(batch,)``.
            noise: Seed ``() uint32`` and step ``() int32``, from which dropout draws.

        Returns:
            The raw outputs, before their activations, ``(outputs, width, batch)``; means and
            variances of the batch ``(2, moments)``; and the backward pass, from the gradient of
            the raw outputs to those of the weights.
        """

    def fold(self, weights: Tensors, moving: Tensors, prepared: Any) -> Any:
        """Return the weights for inference, normalized by the moving statistics."""

    def infer(self, folded: Any, prepared: Any, x: Any) -> Any:
        """Return the raw outputs ``(outputs, width, batch)`` of rows ``(batch, inputs)``."""

    def update_moving(
        self, moving: Tensors, wiring: Wiring, added: Any, left: Any
    ) -> dict[str, Any]:
        """Return the moving statistics after some steps.

        Args:
            moving: The statistics before, each ``(slots,)``.
            wiring: The wiring.
            added: Sum of the steps' decayed moments, ``(2, moments)``.
            left: Share of a statistic that is left after the steps, ``()``.
        """
