"""Search space of a tuner: active hyperparameters, sampling, grids and keys of candidates."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import keras_tuner
import numpy as np

Values = dict[str, Any]

#: Identity of a candidate: each active hyperparameter's name and the ``repr`` of its value.
Key = tuple[tuple[str, str], ...]

_INT = keras_tuner.engine.hyperparameters.Int
_FLOAT = keras_tuner.engine.hyperparameters.Float


class SearchSpace:
    """Search space that consists of the hyperparameters known so far.

    A hyperparameter may be declared several times under different conditions. The first active
    declaration is used, so later ones never replace the user's.

    Args:
        overrides: The user's declarations, a ``keras_tuner.HyperParameters``; if None, the space
            starts empty.
    """

    def __init__(self, overrides: Any = None) -> None:
        self._hp = keras_tuner.HyperParameters() if overrides is None else overrides.copy()

    @property
    def hyperparameters(self) -> Any:
        """Copy of the space, a ``keras_tuner.HyperParameters`` with default values."""
        return self._hp.copy()

    @property
    def definitions(self) -> list[Any]:
        """Hyperparameter definitions, in declaration order."""
        return list(self._hp.space)

    def learn(self, hyperparameters: Any) -> None:
        """Add those of the ``hyperparameters`` that the space does not contain yet."""
        self._hp.merge(hyperparameters, overwrite=False)

    def with_values(self, values: Values) -> Any:
        """Return a ``keras_tuner.HyperParameters`` of this space with the given values."""
        hyperparameters = self._hp.copy()
        hyperparameters.values = dict(values)
        return hyperparameters

    def iterate_active(self, values: Mapping[str, Any]) -> Iterator[tuple[int, Any]]:
        """Yield the index and the definition of each hyperparameter active under ``values``."""
        seen: set[str] = set()
        for index, definition in enumerate(self._hp.space):
            if definition.name not in seen and is_active(definition, values):
                seen.add(definition.name)
                yield index, definition

    def fill(self, values: Mapping[str, Any], choose: Callable[[Any], Any]) -> Values:
        """Return values for exactly the active hyperparameters.

        They are taken from ``values``; missing ones are chosen by ``choose(definition)``.
        """
        filled: Values = {}
        for definition in self._hp.space:
            name = definition.name
            if name not in filled and is_active(definition, filled):
                filled[name] = values[name] if name in values else choose(definition)
        return filled

    def fill_defaults(self, values: Mapping[str, Any]) -> Values:
        """Return ``values`` for exactly the active hyperparameters, with defaults if missing."""
        return self.fill(values, lambda definition: definition.default)

    def draw(self, generator: np.random.Generator, kept: Mapping[str, Any] | None = None) -> Values:
        """Draw random values for the active hyperparameters; ``kept`` values are not redrawn."""
        kept = kept or {}

        def choose(definition: Any) -> Any:
            # The kept value may belong to the same name, declared under another condition.
            if definition.name in kept and contains(definition, kept[definition.name]):
                return kept[definition.name]
            return from_unit(definition, generator.random())

        return self.fill({}, choose)

    def get_key(self, values: Mapping[str, Any]) -> Key:
        """Return the key that identifies a candidate; defaults replace missing values."""
        filled = self.fill_defaults(values)
        return tuple(sorted((name, repr(value)) for name, value in filled.items()))

    def iterate_combinations(self, list_values: Callable[[Any], Iterable[Any]]) -> Iterator[Values]:
        """Iterate over all combinations of active values.

        ``list_values(definition)`` returns the values of one hyperparameter. The hyperparameter
        declared last changes fastest.
        """
        definitions = self.definitions

        def extend(index: int, chosen: Values) -> Iterator[Values]:
            for at in range(index, len(definitions)):
                definition = definitions[at]
                if definition.name in chosen or not is_active(definition, chosen):
                    continue
                for value in list_values(definition):
                    yield from extend(at + 1, {**chosen, definition.name: value})
                return
            yield chosen

        return extend(0, {})

    def list_combinations(self, limit: int) -> list[Values] | None:
        """List all combinations of values, or return None if there are more than ``limit``."""

        def list_values(definition: Any) -> Iterable[Any]:
            domain = list_domain(definition)
            # A Float without a step has infinitely many values, represented by limit + 1.
            return range(limit + 1) if domain is None else domain

        combinations = self.iterate_combinations(list_values)
        first = list(itertools.islice(combinations, limit + 1))
        return first if len(first) <= limit else None


def is_active(definition: Any, values: Mapping[str, Any]) -> bool:
    """Return whether ``values`` meet all conditions of a hyperparameter definition."""
    return all(condition.is_active(values) for condition in definition.conditions)


def is_number(definition: Any) -> bool:
    """Return whether a hyperparameter is a number, that is, an Int or a Float."""
    return isinstance(definition, _INT | _FLOAT)


def has_one_value(definition: Any) -> bool:
    """Return whether a hyperparameter has only one possible value."""
    domain = list_domain(definition)
    return domain is not None and len(domain) == 1


def contains(definition: Any, value: Any) -> bool:
    """Return whether ``value`` is one of a hyperparameter's choices, or within its bounds."""
    if not is_number(definition):
        return any(type(value) is type(each) and value == each for each in definition.values)
    is_integer = isinstance(value, int) and not isinstance(value, bool)
    if not is_integer and (isinstance(definition, _INT) or not isinstance(value, float)):
        return False
    return bool(definition.min_value <= value <= definition.max_value)


def list_domain(definition: Any) -> Sequence[Any] | None:
    """List all values of a hyperparameter in order.

    Return None if a number has no finite list of values, such as a Float without a step.
    """
    if not is_number(definition):
        return list(dict.fromkeys(definition.values))
    low, high = definition.min_value, definition.max_value
    if low == high:
        return [low]
    if isinstance(definition, _INT) and (definition.sampling == "linear" or not definition.step):
        return range(low, high + 1, definition.step or 1)  # may be too long for a list
    if definition.step is None:
        return None
    kind = float if isinstance(definition, _FLOAT) else int
    return list(dict.fromkeys(_clip(definition, kind(value)) for value in definition.values))


def list_grid(definition: Any, points: int) -> Sequence[Any]:
    """List a hyperparameter's grid values, in order.

    The grid contains all values of a choice, of a number with a step, and of an Int with at most
    ``points`` values. Otherwise, it contains the midpoints of ``points`` intervals that are equally
    likely under the hyperparameter's sampling.
    """
    without_step = is_number(definition) and definition.step is None
    domain = list_domain(definition)
    if domain is not None and not (without_step and len(domain) > points):
        return domain
    middles = [(number + 0.5) / points for number in range(points)]
    return list(dict.fromkeys(sorted(from_unit(definition, middle) for middle in middles)))


def from_unit(definition: Any, unit: float) -> Any:
    """Convert a position in [0, 1) to a hyperparameter's value, according to its sampling."""
    return _clip(definition, definition.prob_to_value(unit))


def to_unit(definition: Any, value: float) -> float:
    """Convert a number to a position in [0, 1], according to its sampling.

    The position is 0.5 if the hyperparameter has only one value.
    """
    low, high = definition.min_value, definition.max_value
    if low == high:
        return 0.5
    if definition.sampling == "log":
        return float(np.log(value / low) / np.log(high / low))
    if definition.sampling == "reverse_log":
        return float(1 - np.log((high + low - value) / low) / np.log(high / low))
    return float((value - low) / (high - low))


def _clip(definition: Any, value: Any) -> Any:
    # Rounding of powers may exceed the bounds by the last digit.
    if is_number(definition):
        return min(max(value, definition.min_value), definition.max_value)
    return value
