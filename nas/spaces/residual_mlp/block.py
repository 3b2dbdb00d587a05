"""Residual multi-layer perceptrons as a block of an AutoKeras graph."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import autokeras as ak
import keras

from cerebros_spark.core.errors import ArgumentError
from nas.spaces.cerebros.layers import flat_inputs
from nas.spaces.residual_mlp.layers import materialize
from nas.spaces.residual_mlp.plan import REGULARIZATIONS, ResidualBlock, ResidualPlan, check_rate
from nas.spaces.validation import check_activation, check_count, check_member

_COUNTS = {
    "blocks": 1,
    "layers": 1,
    "width": 1,
    "bypass_layers": 0,
    "bypass_width": 1,
    "inter_block_layers": 0,
    "inter_block_width": 1,
    "final_layers": 0,
    "final_width": 1,
}


@keras.saving.register_keras_serializable(package="cerebros")
class ResidualMLPBlock(ak.Block):
    """Searches residual multi-layer perceptrons at one place of an AutoKeras graph.

    See :class:`~nas.ResidualMLP` for the networks. A bound is one value, or ``(lowest, highest)``
    for numbers and a list for names. A bound with one value makes no hyperparameter. Those of
    a block of the network that is not there, or of a layer that is not there, are conditional.
    The decrease is a fraction of the largest that a block's layers and width allow, so every
    proposal of every tuner can be built. Several inputs are flattened and concatenated.

    Hyperparameters are named after the block (``residual_mlp_block_1/blocks``), those of the
    network's first block ``layers_1``, ``width_1``, ``decrease_1``, ``bypass_layers_1`` and
    ``bypass_width_1_1`` for the first Dense layer of its bypass.

    Args:
        blocks: Number of blocks.
        layers: Dense layers of a block.
        width: Units of a block's first Dense layer.
        decrease: How much narrower a block's layers get: 0 for not at all, 1 for as fast as its
            layers and first width allow.
        bypass_layers: Dense layers in the bypass of a block.
        bypass_width: Units of each.
        bypass_regularization: What follows each: ``"dropout"``, ``"bnorm"`` (batch
            normalization), or a list of both.
        bypass_dropout_rate: Fraction that such a dropout drops.
        inter_block_layers: Dense layers between each two blocks.
        inter_block_width: Units of each.
        final_layers: Dense layers after the last block.
        final_width: Units of each.
        final_regularization: What follows each, as in the bypasses.
        final_dropout_rate: Fraction that such a dropout drops.
        activation: Names of activations.
        name: Name of the block; by default AutoKeras counts.
        tunable: False to keep all hyperparameters at their defaults.

    Raises:
        ArgumentError: If a bound can't be used; the message names it.

    Example:
        >>> head = ak.ClassificationHead()(ResidualMLPBlock(layers=(2, 5))(ak.Input()))
    """

    def __init__(
        self,
        blocks: int | Sequence[int] = (1, 3),
        layers: int | Sequence[int] = (1, 7),
        width: int | Sequence[int] = (8, 96),
        decrease: float | Sequence[float] = (0.0, 1.0),
        bypass_layers: int | Sequence[int] = (0, 1),
        bypass_width: int | Sequence[int] = (4, 32),
        bypass_regularization: str | Sequence[str] = REGULARIZATIONS,
        bypass_dropout_rate: float | Sequence[float] = (0.0, 0.7),
        inter_block_layers: int | Sequence[int] = (0, 1),
        inter_block_width: int | Sequence[int] = (8, 64),
        final_layers: int | Sequence[int] = (0, 1),
        final_width: int | Sequence[int] = (8, 64),
        final_regularization: str | Sequence[str] = REGULARIZATIONS,
        final_dropout_rate: float | Sequence[float] = (0.0, 0.5),
        activation: str | Sequence[str] = ("relu", "gelu"),
        name: str | None = None,
        tunable: bool = True,
    ) -> None:
        super().__init__(name=name, tunable=tunable)
        given = dict(locals())
        self._bounds: dict[str, tuple[Any, Any]] = {}
        for bound, least in _COUNTS.items():
            self._bounds[bound] = _counts(bound, given[bound], least)
        self._bounds["decrease"] = _fractions("decrease", decrease, check_fraction)
        for bound in ("bypass_dropout_rate", "final_dropout_rate"):
            self._bounds[bound] = _fractions(bound, given[bound], check_rate)
        self._choices = {
            bound: _names(bound, given[bound])
            for bound in ("bypass_regularization", "final_regularization", "activation")
        }

    def build(self, hp: Any, inputs: Any = None) -> Any:
        """Adds one network to the graph.

        Args:
            hp: A ``keras_tuner.HyperParameters``, in the scope of the block.
            inputs: A Keras tensor or a list of them.

        Returns:
            One Keras tensor of shape ``(batch, width)``.
        """
        prefix = f"{self.name}_"
        tensors = flat_inputs(
            inputs if isinstance(inputs, list | tuple) else [inputs], prefix=prefix
        )
        tensor = tensors[0]
        if len(tensors) > 1:
            tensor = keras.layers.Concatenate(name=f"{prefix}inputs")(tensors)
        return materialize(self.plan(hp), tensor, self._choice(hp, "activation"), prefix)

    def plan(self, hp: Any) -> ResidualPlan:
        """What the values in ``hp`` stand for; registers the hyperparameters.

        Args:
            hp: A ``keras_tuner.HyperParameters``, in the scope of the block.
        """
        count = self._integer(hp, "blocks", "blocks")
        made = []
        for number in range(1, self._bounds["blocks"][1] + 1):
            with self._at_least(hp, "blocks", "blocks", number):
                block = self._block(hp, number, number <= count)
            if block is not None:
                made.append(block)
        # Without a second block or a Dense layer in a bypass these would mean nothing.
        inter: tuple[int, ...] = ()
        if self._bounds["blocks"][1] > 1:
            with self._at_least(hp, "blocks", "blocks", 2):
                inter = self._widths(hp, "inter_block_layers", "inter_block_width", "", count > 1)
        final = self._widths(hp, "final_layers", "final_width", "", True)
        kinds: dict[str, Any] = {}
        for part in ("bypass", "final"):
            kinds |= self._regularization(hp, part)
        return ResidualPlan(tuple(made), inter, final, **kinds)

    def get_config(self) -> dict[str, Any]:
        """The block's arguments as values that JSON can hold."""
        bounds = {name: list(values) for name, values in (self._bounds | self._choices).items()}
        return {**super().get_config(), **bounds}

    # Hyperparameters ---------------------------------------------------------------------

    def _block(self, hp: Any, number: int, active: bool) -> ResidualBlock | None:
        layers = self._integer(hp, f"layers_{number}", "layers", active)
        width = self._integer(hp, f"width_{number}", "width", active)
        fraction = self._fraction(hp, f"decrease_{number}", "decrease")
        bypass = self._widths(hp, "bypass_layers", "bypass_width", f"_{number}", active)
        if not active:
            return None
        allowed = (width - 1) // layers  # layers * decrease < width
        return ResidualBlock(layers, width, int(fraction * allowed), bypass, number)

    def _widths(
        self, hp: Any, count: str, width: str, suffix: str, active: bool
    ) -> tuple[int, ...]:
        """Units of layers whose number is a hyperparameter too."""
        title = f"{count}{suffix}"
        wanted = self._integer(hp, title, count, active)
        widths = []
        for number in range(1, self._bounds[count][1] + 1):
            with self._at_least(hp, title, count, number):
                name = f"{width}{suffix}_{number}"
                widths.append(self._integer(hp, name, width, number <= wanted))
        return tuple(widths[:wanted])

    def _regularization(self, hp: Any, part: str) -> dict[str, Any]:
        kind, rate = f"{part}_regularization", f"{part}_dropout_rate"
        found: dict[str, Any] = {}
        if self._bounds[f"{part}_layers"][1] == 0:
            return found
        found[kind] = self._choice(hp, kind)
        if len(self._choices[kind]) == 1:
            if found[kind] == "dropout":
                found[rate] = self._fraction(hp, rate, rate)
            return found
        with hp.conditional_scope(kind, ["dropout"]):
            value = self._fraction(hp, rate, rate)
        if found[kind] == "dropout":
            found[rate] = value
        return found

    def _integer(self, hp: Any, name: str, bound: str, active: bool = True) -> int:
        """The value, or 0 where the hyperparameter is only made known and has none."""
        low, high = self._bounds[bound]
        value = low if low == high else hp.Int(name, low, high, default=(low + high) // 2)
        return int(value) if active else 0

    def _fraction(self, hp: Any, name: str, bound: str) -> float:
        low, high = self._bounds[bound]
        if low == high:
            return float(low)
        value = hp.Float(name, low, high, default=(low + high) / 2)
        return low if value is None else float(value)

    def _choice(self, hp: Any, name: str) -> str:
        values = self._choices[name]
        return str(values[0] if len(values) == 1 else hp.Choice(name, list(values)))

    @contextmanager
    def _at_least(self, hp: Any, name: str, bound: str, least: int) -> Iterator[None]:
        """A scope whose hyperparameters are active where ``name`` is at least ``least``."""
        low, high = self._bounds[bound]
        if least <= low:
            # Always so: no condition, and where low == high no hyperparameter to put one on.
            yield
            return
        with hp.conditional_scope(name, list(range(least, high + 1))):
            yield


def check_fraction(name: str, value: Any) -> float:
    """A number from 0 to 1, both included; raises ArgumentError for anything else."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 1:
        raise ArgumentError(f"{name} must be a fraction from 0 to 1, but got {value!r}")
    return float(value)


def _counts(name: str, value: Any, least: int) -> tuple[int, int]:
    low, high = (check_count(name, each, least) for each in _pair(name, value))
    return _ordered(name, low, high)


def _fractions(name: str, value: Any, check: Any) -> tuple[float, float]:
    low, high = (check(name, each) for each in _pair(name, value))
    return _ordered(name, low, high)


def _ordered(name: str, low: Any, high: Any) -> tuple[Any, Any]:
    if low > high:
        raise ArgumentError(f"{name} must be (lowest, highest), but got ({low}, {high})")
    return low, high


def _pair(name: str, value: Any) -> Sequence[Any]:
    if not isinstance(value, list | tuple):
        return (value, value)
    if len(value) != 2:
        raise ArgumentError(f"{name} must be one value or (lowest, highest), but got {value!r}")
    return value


def _names(name: str, value: Any) -> tuple[str, ...]:
    values = [value] if isinstance(value, str) else value
    if not isinstance(values, list | tuple) or not values or len(set(values)) < len(values):
        raise ArgumentError(f"{name} must be a name or a list of different ones, but got {value!r}")
    if name == "activation":
        return tuple(check_activation(name, each) for each in values)
    return tuple(check_member(name, each, REGULARIZATIONS) for each in values)
