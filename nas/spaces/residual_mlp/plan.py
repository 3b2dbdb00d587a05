"""What a residual multi-layer perceptron looks like, checked; no Keras in it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from cerebros_spark.core.errors import ArgumentError
from cerebros_spark.core.validation import check_real
from nas.spaces.validation import check_count, check_member

REGULARIZATIONS = ("dropout", "bnorm")


@dataclass(frozen=True)
class ResidualBlock:
    """One block: Dense layers that get narrower, and the path that bypasses them.

    Attributes:
        layers: Number of Dense layers.
        width: Units of the first.
        decrease: Units that each has less than the one before; ``layers * decrease`` must be
            less than ``width``.
        bypass: Units of the Dense layers in the bypass; empty for a plain copy of the input.
        number: Number of the block in its network, from 1; errors name it.
    """

    layers: int
    width: int
    decrease: int
    bypass: tuple[int, ...] = ()
    number: int = 1

    def __post_init__(self) -> None:
        where = f"block {self.number}: "
        check_count(f"{where}the number of layers", self.layers)
        check_count(f"{where}the first width", self.width)
        check_count(f"{where}the decrease", self.decrease, least=0)
        if self.layers * self.decrease >= self.width:
            raise ArgumentError(
                f"{where}layers * decrease must be less than the first width, but got "
                f"[layers={self.layers}, width={self.width}, decrease={self.decrease}]: "
                f"{self.layers} * {self.decrease} = {self.layers * self.decrease}; use fewer "
                "layers, a smaller decrease or a larger width"
            )
        checked = widths_of(f"{where}the bypass", self.bypass)
        object.__setattr__(self, "bypass", checked)

    @property
    def widths(self) -> tuple[int, ...]:
        """Units of each Dense layer."""
        return tuple(self.width - i * self.decrease for i in range(self.layers))


@dataclass(frozen=True)
class ResidualPlan:
    """Everything between the flat input and the output layer.

    Attributes:
        blocks: The blocks, at least one.
        inter_block: Units of the Dense layers between each two blocks.
        final: Units of the Dense layers after the last block.
        bypass_regularization: What follows each Dense layer of a bypass: ``"dropout"`` or
            ``"bnorm"``.
        bypass_dropout_rate: Fraction that such a dropout drops.
        final_regularization: What follows each final Dense layer, likewise.
        final_dropout_rate: Fraction that such a dropout drops.
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
            check_rate(name, getattr(self, name))
        for name in ("bypass_regularization", "final_regularization"):
            check_member(name, getattr(self, name), REGULARIZATIONS)
        for name in ("inter_block", "final"):
            object.__setattr__(self, name, widths_of(name, getattr(self, name)))


def widths_of(name: str, value: Any) -> tuple[int, ...]:
    """Numbers of units as a tuple; raises ArgumentError if they are something else."""
    if isinstance(value, str) or not isinstance(value, Sequence):
        raise ArgumentError(f"{name} must be a list of numbers of units, but got {value!r}")
    return tuple(check_count(f"{name}: number of units", width) for width in value)


def check_rate(name: str, value: Any) -> float:
    """A dropout rate: at least 0 and less than 1."""
    rate = check_real(name, value, 0.0, 1.0)
    if rate == 1.0:
        raise ArgumentError(f"{name} must be less than 1, or nothing is left, but got {value!r}")
    return rate
