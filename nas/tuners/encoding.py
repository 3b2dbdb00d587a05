"""Hyperparameter values as numbers, for a surrogate."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from nas.tuners.search_space import KnownSpace, domain, is_number, unit_of

_ABSENT = -1.0  # outside [0, 1], so that one split of a tree tells it apart


class Encoding:
    """Columns for the hyperparameters of a space as it is known now.

    A number has a column, scaled to [0, 1] by its sampling; a choice has one for each value. A
    conditional hyperparameter that is not active is -1 in the first case, and 0 in all columns
    in the second. What has one value only has no column.

    Args:
        space: The space.
    """

    def __init__(self, space: KnownSpace) -> None:
        self._space = space
        self._columns: dict[int, int] = {}
        self._choices: dict[int, dict[Any, int]] = {}
        absent: list[float] = []
        for index, definition in enumerate(space.definitions):
            known = domain(definition)
            if known is not None and len(known) == 1:
                continue
            self._columns[index] = len(absent)
            if is_number(definition):
                absent.append(_ABSENT)
            else:
                assert known is not None
                self._choices[index] = {value: at for at, value in enumerate(known)}
                absent.extend([0.0] * len(known))
        self._absent = np.array(absent)

    def rows(self, several: Sequence[Mapping[str, Any]]) -> np.ndarray:
        """A row for each of several values: float64 of shape ``(values, columns)``.

        A value that is missing is the default: the network asked for it later, if at all.
        """
        rows = np.tile(self._absent, (len(several), 1))
        for row, values in zip(rows, several, strict=True):
            for index, definition in self._space.active(values):
                if index in self._columns:
                    value = values.get(definition.name, definition.default)
                    self._write(row, index, definition, value)
        return rows

    def _write(self, row: np.ndarray, index: int, definition: Any, value: Any) -> None:
        column = self._columns[index]
        if index in self._choices:
            at = self._choices[index].get(value)
            if at is not None:
                row[column + at] = 1.0
        else:
            row[column] = unit_of(definition, value)
