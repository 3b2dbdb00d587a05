"""Search space of Cerebros networks: bounds and settings from which networks are drawn."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from cerebros_spark.core.errors import ArgumentError
from cerebros_spark.core.validation import check_integer, check_real
from nas.spaces.validation import check_activation, check_member, check_positive, check_share

Decay = float | Callable[[int], float]
"""Decay with distance: a base ``b`` for ``b ** distance``, or a function of the distance."""

ROUNDING_RULES = ("ceil", "floor")
MERGES = ("concatenate", "add")
REGULARIZATIONS = ("batch_normalization", "dropout", "none")
UNITS = ("dense", "neuron")
SCHEDULES = ("cosine", "constant")

_COUNTS = (
    "max_consecutive_lateral_connections",
    "gate_after_n_lateral_connections",
    "num_lateral_connection_tries_per_unit",
)
_FIRST = "predecessor_level_connection_affinity_factor_first"
_MAIN = "predecessor_level_connection_affinity_factor_main"
_FINAL = "predecessor_level_connection_affinity_factor_final_to_kminus1"
_DECAY_MAIN = "predecessor_level_connection_affinity_factor_decay_main"
_DECAY_LATERAL = "p_lateral_connection_decay"
_PUBLISHED: dict[str, Any] = {
    "maximum_levels": 7,
    "maximum_neurons_per_unit": 4,
    "regularization": "batch_normalization",
    "learning_rate": 0.0664,
    "learning_rate_schedule": "constant",
}
_ROUNDINGS = (f"{_FIRST}_rounding_rule", f"{_MAIN}_rounding_rule")


@dataclass(frozen=True)
class CerebrosSpace:
    """Search space of networks made of levels of small Dense units, wired at random.

    The method and the argument names are those of Cerebros (David Thrower,
    cerebros-core-algorithm-alpha). :meth:`published` returns a space with its published
    near-optimal values for a house-price table. The defaults differ from these where other values
    gave better networks for tables: wider units without batch normalization, fewer levels, and
    lower learning rates that fall to 0. All bounds are inclusive, and every draw between them is
    uniform. For an argument described with "or several", pass one fixed value, or a tuple of values
    to search over. To pick a source means to draw it at random for an edge.

    Args:
        minimum_levels: Minimum number of hidden levels.
        maximum_levels: Maximum number of hidden levels.
        minimum_units_per_level: Minimum number of units on a hidden level.
        maximum_units_per_level: Maximum number of units on a hidden level.
        minimum_neurons_per_unit: Minimum number of neurons (width of the Dense layer) of a unit.
        maximum_neurons_per_unit: Maximum number of neurons of a unit.
        minimum_skip_connection_depth: Minimum distance, in levels, from a unit to the levels that
            it reads besides the level just above.
        maximum_skip_connection_depth: Maximum distance, in levels, from a unit to the levels that
            it reads.
        predecessor_level_connection_affinity_factor_first: Number of picks that each unit of level
            1 makes, divided by the number of inputs.
        predecessor_level_connection_affinity_factor_first_rounding_rule: How the number of those
            picks is rounded: ``"ceil"`` or ``"floor"``.
        predecessor_level_connection_affinity_factor_main: Number of picks that each unit of level 2
            or deeper makes from a level above, divided by that level's number of units, before the
            decay.
        predecessor_level_connection_affinity_factor_main_rounding_rule: How the number of those
            picks, and of the outputs' extra picks, is rounded: ``"ceil"`` or ``"floor"``.
        predecessor_level_connection_affinity_factor_decay_main: Multiplier of
            ``predecessor_level_connection_affinity_factor_main`` for a level ``x`` levels above
            (closer to the inputs): a base ``b`` for ``b ** x``, or a function of ``x``.
        predecessor_level_connection_affinity_factor_final_to_kminus1: Number of picks that each
            output makes from the last hidden level *in addition* to the main picks, divided by that
            level's number of units. Defaults to 0: the published settings name no value, and with
            the main picks alone, each output picks every unit of that level seven times on
            average.
        max_consecutive_lateral_connections: Maximum number of lateral edges in a row; see
            :mod:`nas.spaces.cerebros.wiring` for the definition of a row.
        gate_after_n_lateral_connections: Number of ungated lateral edges in a row after which the
            next edge is gated.
        gate_activation: Activation of gated edges.
        p_lateral_connection: Probability that one try makes a lateral edge, before the decay.
        p_lateral_connection_decay: Multiplier of that probability for a unit ``x`` positions to the
            left: a base ``b`` for ``b ** x``, or a function of ``x``. Products above 1 are treated
            as 1.
        num_lateral_connection_tries_per_unit: Number of tries for each pair of units on a hidden
            level.
        activation: Activation of the hidden units, or several.
        merge: How a unit merges its sources: ``"concatenate"``, or ``"add"``, which adds sources
            of equal width and concatenates the sums; or several.
        regularization: Layer between the merge and the Dense layer of a unit:
            ``"batch_normalization"``, ``"dropout"`` or ``"none"``, or several.
        dropout_rate: Fraction of values that ``"dropout"`` drops, in [0, 1).
        batch_normalization_momentum: Momentum of the moving statistics, in [0, 1). With Keras'
            default of 0.99, validation is meaningful only after hundreds of steps; trials on small
            tables have fewer.
        unit: Kind of the hidden units, or several. ``"dense"`` is one Dense layer. ``"neuron"`` is
            a Dense layer, the axon, followed by parallel Dense layers of the same width, the
            dendrites. The unit outputs the concatenated dendrites.
        minimum_dendrites_per_neuron: Minimum number of dendrites of a ``"neuron"``.
        maximum_dendrites_per_neuron: Maximum number of dendrites of a ``"neuron"``.
        learning_rate: Learning rate of the optimizer, or several.
        learning_rate_schedule: ``"cosine"`` or ``"constant"``. With ``"cosine"``, the rate rises to
            ``learning_rate`` over the first 5% of a trial's steps and then falls to 0 by a half
            cosine. If a callback sets learning rates, or if the number of epochs has no limit, the
            rate is constant in any case.

    Raises:
        ArgumentError: If an argument is invalid.
    """

    minimum_levels: int = 2
    maximum_levels: int = 4
    minimum_units_per_level: int = 1
    maximum_units_per_level: int = 4
    minimum_neurons_per_unit: int = 1
    maximum_neurons_per_unit: int = 32
    minimum_skip_connection_depth: int = 1
    maximum_skip_connection_depth: int = 7
    predecessor_level_connection_affinity_factor_first: float = 15.0313
    predecessor_level_connection_affinity_factor_first_rounding_rule: str = "ceil"
    predecessor_level_connection_affinity_factor_main: float = 10.046
    predecessor_level_connection_affinity_factor_main_rounding_rule: str = "ceil"
    predecessor_level_connection_affinity_factor_decay_main: Decay = 0.7
    predecessor_level_connection_affinity_factor_final_to_kminus1: float = 0.0
    max_consecutive_lateral_connections: int = 23
    gate_after_n_lateral_connections: int = 3
    gate_activation: str = "sigmoid"
    p_lateral_connection: float = 0.19668
    p_lateral_connection_decay: Decay = 0.95
    num_lateral_connection_tries_per_unit: int = 20
    activation: str | tuple[str, ...] = "elu"
    merge: str | tuple[str, ...] = "concatenate"
    regularization: str | tuple[str, ...] = "none"
    dropout_rate: float = 0.2
    batch_normalization_momentum: float = 0.9
    unit: str | tuple[str, ...] = "dense"
    minimum_dendrites_per_neuron: int = 1
    maximum_dendrites_per_neuron: int = 4
    learning_rate: float | tuple[float, ...] = (0.001, 0.003, 0.01)
    learning_rate_schedule: str = "cosine"

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            if field.name.startswith("minimum_"):
                self._check_range(field.name, f"maximum_{field.name.removeprefix('minimum_')}")
        for name in _COUNTS:
            self._set(name, check_integer(name, getattr(self, name), 1))
        for name in (_FIRST, _MAIN, _FINAL):
            self._set(name, check_real(name, getattr(self, name)))
        for name in _ROUNDINGS:
            check_member(name, getattr(self, name), ROUNDING_RULES)
        for name in (_DECAY_MAIN, _DECAY_LATERAL):
            if not callable(getattr(self, name)):
                self._set(name, check_real(name, getattr(self, name)))
        check_activation("gate_activation", self.gate_activation)
        name = "p_lateral_connection"
        self._set(name, check_real(name, self.p_lateral_connection, 0.0, 1.0))
        for name in ("dropout_rate", "batch_normalization_momentum"):
            self._set(name, check_share(name, getattr(self, name)))
        self._check_choices("activation", check_activation)
        self._check_choices("merge", lambda n, v: check_member(n, v, MERGES))
        self._check_choices("regularization", lambda n, v: check_member(n, v, REGULARIZATIONS))
        self._check_choices("unit", lambda n, v: check_member(n, v, UNITS))
        self._check_choices("learning_rate", check_positive)
        check_member("learning_rate_schedule", self.learning_rate_schedule, SCHEDULES)

    def _set(self, name: str, value: Any) -> None:
        object.__setattr__(self, name, value)

    def _check_range(self, low: str, high: str) -> None:
        for name in (low, high):
            self._set(name, check_integer(name, getattr(self, name), 1))
        least, most = getattr(self, low), getattr(self, high)
        if least > most:
            raise ArgumentError(
                f"{low} <= {high} must hold, but got ({low}={least}, {high}={most})"
            )

    def _check_choices(self, name: str, check: Callable[[str, Any], Any]) -> None:
        value = getattr(self, name)
        if not isinstance(value, (tuple, list)):
            self._set(name, check(name, value))
            return
        values = tuple(check(name, item) for item in value)
        if not values or len(set(values)) < len(values):
            raise ArgumentError(f"{name} must hold different values, but got {value!r}")
        self._set(name, values)

    @classmethod
    def published(cls, **bounds: Any) -> CerebrosSpace:
        """Return a space with the published values, except for the arguments in ``bounds``."""
        return cls(**(_PUBLISHED | bounds))

    def choices(self, name: str) -> tuple[Any, ...]:
        """Return the values of the argument ``name`` as a tuple, even if it has only one value."""
        value = getattr(self, name)
        return value if isinstance(value, tuple) else (value,)

    def decay_main(self, distance: int) -> float:
        """Return the multiplier of ``predecessor_level_connection_affinity_factor_main``.

        It applies to sources that are ``distance`` levels above the unit (closer to the inputs).

        Raises:
            ArgumentError: If a decay function returns a negative or infinite number, or NaN.
        """
        return _compute_decay(_DECAY_MAIN, getattr(self, _DECAY_MAIN), distance)

    def decay_lateral(self, distance: int) -> float:
        """Return the multiplier of ``p_lateral_connection`` for a unit ``distance`` positions left.

        Raises:
            ArgumentError: If a decay function returns a negative or infinite number, or NaN.
        """
        return _compute_decay(_DECAY_LATERAL, self.p_lateral_connection_decay, distance)

    def picks(self, level: int, source_level: int, units: int) -> int:
        """Return the number of sources that a unit on ``level`` picks from ``source_level``.

        ``units`` is the number of units on ``source_level``. A unit picks at least one source from
        the level just above.
        """
        if level == 1:
            count = _round(
                self.predecessor_level_connection_affinity_factor_first * units,
                self.predecessor_level_connection_affinity_factor_first_rounding_rule,
            )
        else:
            affinity = self.predecessor_level_connection_affinity_factor_main
            count = _round(
                affinity * self.decay_main(level - source_level) * units,
                self.predecessor_level_connection_affinity_factor_main_rounding_rule,
            )
        return max(count, 1) if level - source_level == 1 else count

    def final_picks(self, units: int) -> int:
        """Return the extra picks of each output from a last hidden level with ``units`` units."""
        return _round(
            self.predecessor_level_connection_affinity_factor_final_to_kminus1 * units,
            self.predecessor_level_connection_affinity_factor_main_rounding_rule,
        )

    def reaches(self, distance: int) -> bool:
        """Return whether a unit picks sources from the level ``distance`` levels above it."""
        nearest, farthest = self.minimum_skip_connection_depth, self.maximum_skip_connection_depth
        return distance == 1 or nearest <= distance <= farthest

    def get_config(self) -> dict[str, Any]:
        """Return the arguments as JSON values, to be passed to :meth:`from_config`.

        A function is represented by its name as registered with Keras; if it is not registered,
        ArgumentError is raised.
        """
        return {
            field.name: _to_config(field.name, getattr(self, field.name))
            for field in dataclasses.fields(self)
        }

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> CerebrosSpace:
        """Create a space from the result of :meth:`get_config`; missing arguments get defaults."""
        unknown = sorted(set(config) - {field.name for field in dataclasses.fields(cls)})
        if unknown:
            raise ArgumentError(f"CerebrosSpace has no arguments {unknown}")
        return cls(**{name: _from_config(name, value) for name, value in config.items()})

    def to_json(self) -> str:
        """Return the space as a JSON string; raise ArgumentError if :meth:`get_config` does."""
        return json.dumps(self.get_config(), sort_keys=True)

    @classmethod
    def from_json(cls, text: str) -> CerebrosSpace:
        """Parse a space written by :meth:`to_json`."""
        return cls.from_config(json.loads(text))


def _compute_decay(name: str, decay: Decay, distance: int) -> float:
    if callable(decay):
        return check_real(f"{name}({distance})", float(decay(distance)))
    # Not ``**``: the C library's pow may differ in the last bit between machines.
    return math.prod([decay] * distance, start=1.0)


def _round(value: float, rule: str) -> int:
    # 1.1 * 10 is 11.000000000000002, which ceil would round to 12.
    rounded = round(value, 9)
    return math.ceil(rounded) if rule == "ceil" else math.floor(rounded)


def _to_config(name: str, value: Any) -> Any:
    if isinstance(value, tuple):
        return list(value)
    if not callable(value):
        return value
    import keras

    registered = keras.saving.get_registered_name(value)
    if keras.saving.get_registered_object(registered) is not value:
        raise ArgumentError(
            f"cannot serialize the space: {name} is the function {value!r}, which is not "
            "registered; decorate it with keras.saving.register_keras_serializable, or pass a base"
        )
    return {"registered_name": registered}


def _from_config(name: str, value: Any) -> Any:
    if isinstance(value, list):
        return tuple(value)
    if not isinstance(value, Mapping):
        return value
    import keras

    registered = value.get("registered_name")
    function = keras.saving.get_registered_object(registered)
    if function is None:
        raise ArgumentError(
            f"cannot find {name}: the function {registered!r} is not registered; import the "
            "module that registers it first"
        )
    return function
