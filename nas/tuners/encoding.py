"""Encoding of hyperparameter values as numbers, for a surrogate model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from nas.tuners.search_space import SearchSpace, has_one_value, is_number, list_domain, to_unit

_INACTIVE = -1.0  # outside [0, 1], so that one split of a tree separates it


class Encoding:
    """Numeric columns for the hyperparameters of a space as known so far.

    A number has one column, scaled to [0, 1] according to its sampling; a choice has one column per
    value. If inactive, a number is -1 and a choice is 0 in all its columns. A hyperparameter with
    only one value has no column.
    """

    def __init__(self, space: SearchSpace) -> None:
        self._space = space
        self._columns: dict[int, int] = {}
        self._choices: dict[int, dict[Any, int]] = {}
        inactive: list[float] = []
        for index, definition in enumerate(space.definitions):
            if has_one_value(definition):
                continue
            self._columns[index] = len(inactive)
            if is_number(definition):
                inactive.append(_INACTIVE)
            else:
                values = list_domain(definition) or ()
                self._choices[index] = {value: at for at, value in enumerate(values)}
                inactive.extend([0.0] * len(values))
        self._inactive = np.array(inactive)

    def encode(self, candidates: Sequence[Mapping[str, Any]]) -> np.ndarray:
        """Encode the values of candidates as a float64 array with one row per candidate.

        A missing value counts as the default, because its hyperparameter was declared later.
        """
        rows = np.tile(self._inactive, (len(candidates), 1))
        for row, values in zip(rows, candidates, strict=True):
            for index, definition in self._space.iterate_active(values):
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
            row[column] = to_unit(definition, value)
