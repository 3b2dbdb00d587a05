"""AutoKeras block that searches residual multi-layer perceptrons."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import Any

import autokeras as ak
import keras

from cerebros_spark.core.errors import ArgumentError
from cerebros_spark.core.validation import check_integer, check_real
from nas.spaces.cerebros.layers import flatten_inputs
from nas.spaces.hyperparameters import active_from, read_integer
from nas.spaces.residual_mlp.layers import build_layers
from nas.spaces.residual_mlp.plan import REGULARIZATIONS, ResidualBlock, ResidualPlan
from nas.spaces.validation import check_activation, check_member, check_share

_LEAST = {
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
    """AutoKeras block that searches residual multi-layer perceptrons.

    :class:`~nas.ResidualMLP` describes the networks. Each argument is one value, or a range to
    search: ``(lowest, highest)`` for a number, or a list for a name. An argument with one value has
    no hyperparameter. Hyperparameters of blocks and layers that smaller networks lack are
    conditional. Several inputs are flattened and concatenated.

    Hyperparameter names begin with the block's name (``residual_mlp_block_1/blocks``). Those of the
    first block in the network are ``layers_1``, ``width_1``, ``decrease_1``, ``bypass_layers_1``
    and, for the first Dense layer of its bypass, ``bypass_width_1_1``.

    Args:
        blocks: Number of blocks.
        layers: Number of Dense layers in a block.
        width: Number of units in the first Dense layer of a block.
        decrease: How fast a block's layers get narrower, as a fraction, from 0 to 1, of the maximum
            that their number and first width allow. Every combination of values can therefore be
            built. If 0, all layers have the same width.
        bypass_layers: Number of Dense layers in a block's bypass.
        bypass_width: Number of units in each bypass layer.
        bypass_regularization: Layer after each bypass layer: ``"dropout"``, ``"bnorm"`` (batch
            normalization), or a list of both.
        bypass_dropout_rate: Dropout rate in the bypasses, in [0, 1).
        inter_block_layers: Number of Dense layers between consecutive blocks.
        inter_block_width: Number of units in each layer between blocks.
        final_layers: Number of Dense layers after the last block.
        final_width: Number of units in each final layer.
        final_regularization: Layer after each final layer: ``"dropout"``, ``"bnorm"``, or a list of
            both.
        final_dropout_rate: Dropout rate after the final layers, in [0, 1).
        activation: Name of a Keras activation, or a list of names.
        name: Name of the block; if None, AutoKeras numbers a default name.
        tunable: Whether to search the hyperparameters; if False, they keep their defaults.

    Raises:
        ArgumentError: If an argument is invalid.

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
        arguments = dict(locals())
        self._bounds: dict[str, tuple[Any, Any]] = {}
        for bound, least in _LEAST.items():
            low, high = _to_pair(bound, arguments[bound])
            self._bounds[bound] = (
                check_integer(bound, low, least),
                check_integer(bound, high, least),
            )
        low, high = _to_pair("decrease", decrease)
        self._bounds["decrease"] = (
            check_real("decrease", low, 0.0, 1.0),
            check_real("decrease", high, 0.0, 1.0),
        )
        for bound in ("bypass_dropout_rate", "final_dropout_rate"):
            low, high = _to_pair(bound, arguments[bound])
            self._bounds[bound] = check_share(bound, low), check_share(bound, high)
        for bound, (low, high) in self._bounds.items():
            if low > high:
                raise ArgumentError(f"{bound} must be (lowest, highest), but got ({low}, {high})")
        self._choices = {
            bound: _check_names(bound, arguments[bound])
            for bound in ("bypass_regularization", "final_regularization", "activation")
        }

    def build(self, hp: Any, inputs: Any = None) -> Any:
        """Build a network in the graph.

        Args:
            hp: A ``keras_tuner.HyperParameters``, in the block's name scope.
            inputs: A Keras tensor or a list of them.

        Returns:
            The network's last hidden output, a Keras tensor of shape ``(batch, width)``.
        """
        prefix = f"{self.name}_"
        several = isinstance(inputs, list | tuple)
        tensors = flatten_inputs(inputs if several else [inputs], prefix=prefix)
        tensor = tensors[0]
        if len(tensors) > 1:
            tensor = keras.layers.Concatenate(name=f"{prefix}inputs")(tensors)
        return build_layers(self.plan(hp), tensor, self._read_choice(hp, "activation"), prefix)

    def plan(self, hp: Any) -> ResidualPlan:
        """Register the hyperparameters, and return the network plan that their values define.

        Args:
            hp: A ``keras_tuner.HyperParameters``, in the block's name scope.
        """
        most = self._bounds["blocks"][1]
        count = self._read_integer(hp, "blocks", "blocks")
        blocks = []
        for number in range(1, most + 1):
            with self._active_from(hp, "blocks", "blocks", number):
                block = self._read_block(hp, number, number <= count)
            if block is not None:
                blocks.append(block)
        inter: tuple[int, ...] = ()
        if most > 1:  # a single block has no layers between blocks
            with self._active_from(hp, "blocks", "blocks", 2):
                inter = self._read_widths(hp, "inter_block", "", count > 1)
        final = self._read_widths(hp, "final", "", True)
        regularization: dict[str, Any] = {}
        for part in ("bypass", "final"):
            regularization |= self._read_regularization(hp, part)
        return ResidualPlan(tuple(blocks), inter, final, **regularization)

    def get_config(self) -> dict[str, Any]:
        """Return the block's arguments as a JSON-serializable dict."""
        bounds = {name: list(values) for name, values in (self._bounds | self._choices).items()}
        return {**super().get_config(), **bounds}

    # Hyperparameters ---------------------------------------------------------------------

    def _read_block(self, hp: Any, number: int, active: bool) -> ResidualBlock | None:
        layers = self._read_integer(hp, f"layers_{number}", "layers", active)
        width = self._read_integer(hp, f"width_{number}", "width", active)
        fraction = self._read_fraction(hp, f"decrease_{number}", "decrease")
        bypass = self._read_widths(hp, "bypass", f"_{number}", active)
        if not active:
            return None
        largest = (width - 1) // layers  # layers * decrease < width
        return ResidualBlock(layers, width, int(fraction * largest), bypass, number)

    def _read_widths(self, hp: Any, part: str, suffix: str, active: bool) -> tuple[int, ...]:
        """Return the width of each Dense layer in a part such as ``"bypass"`` or ``"final"``."""
        bound = f"{part}_layers"
        name = f"{bound}{suffix}"
        count = self._read_integer(hp, name, bound, active)
        widths = []
        for number in range(1, self._bounds[bound][1] + 1):
            with self._active_from(hp, name, bound, number):
                title = f"{part}_width{suffix}_{number}"
                widths.append(self._read_integer(hp, title, f"{part}_width", number <= count))
        return tuple(widths[:count])

    def _read_regularization(self, hp: Any, part: str) -> dict[str, Any]:
        kind, rate = f"{part}_regularization", f"{part}_dropout_rate"
        if self._bounds[f"{part}_layers"][1] == 0:
            return {}
        value = self._read_choice(hp, kind)
        if len(self._choices[kind]) > 1:
            with hp.conditional_scope(kind, ["dropout"]):
                dropout_rate = self._read_fraction(hp, rate, rate)
        elif value == "dropout":
            dropout_rate = self._read_fraction(hp, rate, rate)
        return {kind: value, rate: dropout_rate} if value == "dropout" else {kind: value}

    def _read_integer(self, hp: Any, name: str, bound: str, active: bool = True) -> int:
        return read_integer(hp, name, *self._bounds[bound], active)

    def _read_fraction(self, hp: Any, name: str, bound: str) -> float:
        low, high = self._bounds[bound]
        if low == high:
            return float(low)
        value = hp.Float(name, low, high, default=(low + high) / 2)
        return low if value is None else float(value)

    def _read_choice(self, hp: Any, name: str) -> str:
        values = self._choices[name]
        return str(values[0] if len(values) == 1 else hp.Choice(name, list(values)))

    def _active_from(
        self, hp: Any, name: str, bound: str, least: int
    ) -> AbstractContextManager[Any]:
        return active_from(hp, name, least, *self._bounds[bound])


def _to_pair(name: str, value: Any) -> Sequence[Any]:
    if not isinstance(value, list | tuple):
        return (value, value)
    if len(value) != 2:
        raise ArgumentError(f"{name} must be one value or (lowest, highest), but got {value!r}")
    return value


def _check_names(name: str, value: Any) -> tuple[str, ...]:
    values = [value] if isinstance(value, str) else value
    if not isinstance(values, list | tuple) or not values or len(set(values)) < len(values):
        raise ArgumentError(
            f"{name} must be a name or a list of different names, but got {value!r}"
        )
    if name == "activation":
        return tuple(check_activation(name, each) for each in values)
    return tuple(check_member(name, each, REGULARIZATIONS) for each in values)
