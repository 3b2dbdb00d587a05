"""The search space as a tuner of ours knows it: what is active, drawn, counted and told apart."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import keras_tuner
import numpy as np

Values = dict[str, Any]

_INT = keras_tuner.engine.hyperparameters.Int
_FLOAT = keras_tuner.engine.hyperparameters.Float

#: Values told apart: names and values of what is active.
Key = tuple[tuple[str, str], ...]


class KnownSpace:
    """Hyperparameters as far as they are known.

    A hyperparameter may be declared several times under different conditions. Of those that are
    active the first declared one counts, so what the user declared is never replaced.

    Args:
        overrides: What the user declared, a ``keras_tuner.HyperParameters``; may be None.
    """

    def __init__(self, overrides: Any = None) -> None:
        self._known = keras_tuner.HyperParameters() if overrides is None else overrides.copy()

    @property
    def hyperparameters(self) -> Any:
        """A ``keras_tuner.HyperParameters`` of its own, with the default values."""
        return self._known.copy()

    @property
    def definitions(self) -> list[Any]:
        """The hyperparameters, in the order they were declared."""
        return list(self._known.space)

    def learn(self, hyperparameters: Any) -> None:
        """Adds what is not known yet; what is known stays as it is."""
        self._known.merge(hyperparameters, overwrite=False)

    def filled_in(self, values: Values) -> Any:
        """A ``keras_tuner.HyperParameters`` of this space with these values."""
        made = self._known.copy()
        made.values = dict(values)
        return made

    def active(self, values: Mapping[str, Any]) -> Iterator[tuple[int, Any]]:
        """Numbers and definitions of the hyperparameters that are active with these values."""
        taken: set[str] = set()
        for index, definition in enumerate(self._known.space):
            if definition.name not in taken and is_active(definition, values):
                taken.add(definition.name)
                yield index, definition

    def fill(self, values: Mapping[str, Any], choose: Callable[[Any], Any]) -> Values:
        """Values of all that is active, and of nothing else.

        Args:
            values: Values that are kept where they are active.
            choose: Gives the value of a definition that has none.
        """
        filled: Values = {}
        for definition in self._known.space:
            name = definition.name
            if name not in filled and is_active(definition, filled):
                filled[name] = values[name] if name in values else choose(definition)
        return filled

    def draw(self, generator: np.random.Generator, kept: Mapping[str, Any] | None = None) -> Values:
        """Values drawn at random, but for those that are kept."""
        kept = kept or {}

        def choose(definition: Any) -> Any:
            # A value kept may be one of the same name under another condition.
            if definition.name in kept and holds(definition, kept[definition.name]):
                return kept[definition.name]
            return value_at(definition, generator.random())

        return self.fill({}, choose)

    def key(self, values: Mapping[str, Any]) -> Key:
        """What tells values apart; a value that is missing is the default."""
        complete = self.fill(values, lambda definition: definition.default)
        return tuple(sorted((name, repr(value)) for name, value in complete.items()))

    def combinations(self, values_of: Callable[[Any], Iterable[Any]]) -> Iterator[Values]:
        """Every combination once; the hyperparameter declared last changes fastest.

        Args:
            values_of: The values of a definition that are combined.
        """
        definitions = self.definitions

        def extended(index: int, chosen: Values) -> Iterator[Values]:
            for at in range(index, len(definitions)):
                definition = definitions[at]
                if definition.name in chosen or not is_active(definition, chosen):
                    continue
                for value in values_of(definition):
                    yield from extended(at + 1, {**chosen, definition.name: value})
                return
            yield chosen

        return extended(0, {})

    def all_combinations(self, at_most: int) -> list[Values] | None:
        """All values there are; None if there are more than that many, or no end of them."""
        try:
            found = list(itertools.islice(self.combinations(_countable), at_most + 1))
        except _EndlessError:
            return None
        return found if len(found) <= at_most else None


class _EndlessError(Exception):
    """A hyperparameter's values can't be counted."""


def is_active(definition: Any, values: Mapping[str, Any]) -> bool:
    """Whether a hyperparameter's conditions hold."""
    return all(condition.is_active(values) for condition in definition.conditions)


def is_number(definition: Any) -> bool:
    """Whether it is an Int or a Float."""
    return isinstance(definition, _INT | _FLOAT)


def holds(definition: Any, value: Any) -> bool:
    """Whether a value is one of a hyperparameter's, or within its bounds if it is a number."""
    if not is_number(definition):
        return any(type(value) is type(each) and value == each for each in definition.values)
    is_whole = isinstance(value, int) and not isinstance(value, bool)
    if not is_whole and (isinstance(definition, _INT) or not isinstance(value, float)):
        return False
    return bool(definition.min_value <= value <= definition.max_value)


def domain(definition: Any) -> Sequence[Any] | None:
    """All values of a hyperparameter, in their order; None for a Float without a step."""
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
    return list(dict.fromkeys(_bounded(definition, kind(value)) for value in definition.values))


def grid(definition: Any, points: int) -> Sequence[Any]:
    """The values of a hyperparameter on a grid, in their order.

    All of them, if it is a choice or has a step. Otherwise the middles of that many parts, which
    are equally likely under its sampling.
    """
    unstepped = is_number(definition) and definition.step is None
    known = domain(definition)
    if known is not None and not (unstepped and len(known) > points):
        return known
    middles = [(number + 0.5) / points for number in range(points)]
    return list(dict.fromkeys(sorted(value_at(definition, middle) for middle in middles)))


def value_at(definition: Any, unit: float) -> Any:
    """The value at a place in [0, 1), where its sampling puts it."""
    return _bounded(definition, definition.prob_to_value(unit))


def unit_of(definition: Any, value: float) -> float:
    """The place of a number in [0, 1], the other way round; 0.5 if there is one value only."""
    low, high = definition.min_value, definition.max_value
    if low == high:
        return 0.5
    if definition.sampling == "log":
        return float(np.log(value / low) / np.log(high / low))
    if definition.sampling == "reverse_log":
        return float(1 - np.log((high + low - value) / low) / np.log(high / low))
    return float((value - low) / (high - low))


def _bounded(definition: Any, value: Any) -> Any:
    # Powers are rounded, and may leave the bounds by the last digit.
    if is_number(definition):
        return min(max(value, definition.min_value), definition.max_value)
    return value


def _countable(definition: Any) -> Sequence[Any]:
    known = domain(definition)
    if known is None:
        raise _EndlessError
    return known
