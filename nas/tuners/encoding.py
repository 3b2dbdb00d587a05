"""Numeric encoding of hyperparameter values, for a surrogate model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from nas.tuners.search_space import SearchSpace, has_one_value, is_number, list_domain, to_unit

_INACTIVE = -1.0  # outside [0, 1], so that one split of a tree separates it


class Encoding:
    """Encoding of hyperparameter values as numeric columns, for the space known so far.

    A number has one column, scaled to [0, 1] according to its sampling. A choice has one column per
    value (one-hot). If a hyperparameter is inactive, a number's column is -1 and all columns of a
    choice are 0. A hyperparameter with only one value has no column.
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
        """Encode candidates as a float64 array of shape ``(candidates, columns)``.

        A value is missing if its hyperparameter was declared later; it is treated as the default.
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
