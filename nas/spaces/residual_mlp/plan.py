"""Validated plan of a residual multi-layer perceptron; does not import Keras."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from cerebros_spark.core.errors import ArgumentError
from cerebros_spark.core.validation import check_integer
from nas.spaces.validation import check_list, check_member, check_share

REGULARIZATIONS = ("dropout", "bnorm")


@dataclass(frozen=True)
class ResidualBlock:
    """Block of Dense layers of decreasing width, and the bypass around them.

    Attributes:
        layers: Number of Dense layers.
        width: Number of units in the first Dense layer.
        decrease: Number of units by which each layer is narrower than the previous one;
            ``layers * decrease`` must be less than ``width``.
        bypass: Number of units in each Dense layer of the bypass; if empty, the bypass copies the
            block's input unchanged.
        number: Position of the block in the network, starting at 1, for error messages.
    """

    layers: int
    width: int
    decrease: int
    bypass: tuple[int, ...] = ()
    number: int = 1

    def __post_init__(self) -> None:
        where = f"block {self.number}: "
        check_integer(f"{where}the number of layers", self.layers, 1)
        check_integer(f"{where}the first width", self.width, 1)
        check_integer(f"{where}the decrease", self.decrease, 0)
        if self.layers * self.decrease >= self.width:
            raise ArgumentError(
                f"{where}layers * decrease must be less than the first width, but got "
                f"[layers={self.layers}, width={self.width}, decrease={self.decrease}]: "
                f"{self.layers} * {self.decrease} = {self.layers * self.decrease}; use fewer "
                "layers, a smaller decrease or a larger width"
            )
        bypass = check_widths(f"{where}the bypass", self.bypass)
        object.__setattr__(self, "bypass", bypass)

    @property
    def widths(self) -> tuple[int, ...]:
        """Number of units in each Dense layer."""
        return tuple(self.width - i * self.decrease for i in range(self.layers))


@dataclass(frozen=True)
class ResidualPlan:
    """Plan of a network's layers between the flat input and the output layer.

    Attributes:
        blocks: Blocks of the network, at least one.
        inter_block: Number of units in each Dense layer between consecutive blocks.
        final: Number of units in each Dense layer after the last block.
        bypass_regularization: Layer after each Dense layer of a bypass: ``"dropout"`` or
            ``"bnorm"`` (batch normalization).
        bypass_dropout_rate: Dropout rate in the bypasses, in [0, 1).
        final_regularization: Layer after each final Dense layer: ``"dropout"`` or ``"bnorm"``.
        final_dropout_rate: Dropout rate after the final Dense layers, in [0, 1).
    """

    blocks: tuple[ResidualBlock, ...]
    inter_block: tuple[int, ...] = ()
    final: tuple[int, ...] = ()
    bypass_regularization: str = "dropout"
    bypass_dropout_rate: float = 0.25
    final_regularization: str = "dropout"
    final_dropout_rate: float = 0.25

    def __post_init__(self) -> None:
        if not self.blocks:
            raise ArgumentError(f"blocks must hold at least one block, but got {self.blocks!r}")
        for name in ("bypass_dropout_rate", "final_dropout_rate"):
            check_share(name, getattr(self, name))
        for name in ("bypass_regularization", "final_regularization"):
            check_member(name, getattr(self, name), REGULARIZATIONS)
        for name in ("inter_block", "final"):
            object.__setattr__(self, name, check_widths(name, getattr(self, name)))


def check_widths(name: str, value: Any) -> tuple[int, ...]:
    """Return ``value`` as a tuple; raise ArgumentError unless it lists positive integers.

    ``name`` is the argument's name in error messages.
    """
    widths = check_list(name, value, "unit counts")
    return tuple(check_integer(f"{name}: number of units", width, 1) for width in widths)
