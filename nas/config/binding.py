"""Resources bound to a search: its workers, store and columns, with their validation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from cerebros_spark.backends.base import Backend
from cerebros_spark.core.errors import ArgumentError
from cerebros_spark.core.validation import check_integer, check_optional_integer
from cerebros_spark.storage.store import Store
from nas.data.frames import COLLECT_ROWS

Columns = list[str | list[str]]

AUTO = "auto"
"""Value of ``validation``: hold out a random fifth of the rows; cross-validate small tables."""

AUTO_FRACTION = 0.2


# Slots per worker for trials that train together: some run, some wait, some are on other workers.
_GROUP_SLOTS_PER_WORKER = 64


@dataclass(frozen=True)
class Resources:
    """Validated resources of a search; see ``HyperHyperModel.resource_bind`` for the fields."""

    backend: Backend
    store: Store
    feature_columns: Columns | None
    label_columns: Columns | None
    validation: float | str
    evaluation_metric: tuple[Any, ...]
    max_concurrent_trials: int | None
    shard_memory: int
    program_memory: int
    sample_weight_column: str | None = None
    column_types: Mapping[str, str] | None = None
    group_column: str | None = None
    time_column: str | None = None
    collect_rows: int = COLLECT_ROWS

    def __post_init__(self) -> None:
        if not isinstance(self.sample_weight_column, str | None):
            raise ArgumentError(
                "sample_weight_column must be the name of a column, but got "
                f"{self.sample_weight_column!r}"
            )
        if not isinstance(self.store, Store):
            raise ArgumentError(
                f"store must be a Store such as LocalStore(prefix_path=...), but got {self.store!r}"
            )
        if not hasattr(self.backend, "num_workers"):
            raise ArgumentError(
                f"backend must be a SparkBackend or a LocalBackend, but got {self.backend!r}"
            )
        for name in ("max_concurrent_trials", "shard_memory", "program_memory"):
            checked = check_optional_integer(name, getattr(self, name), 1)
            object.__setattr__(self, name, checked)
        collect_rows = check_integer("collect_rows", self.collect_rows, 0)
        object.__setattr__(self, "collect_rows", collect_rows)

    @property
    def slots(self) -> int:
        """Maximum number of trials in progress at the same time."""
        return self.max_concurrent_trials or 2 * self.backend.num_workers

    @property
    def few_slots(self) -> int:
        """Maximum number of trials in progress under a time limit, where each should end soon."""
        return self.max_concurrent_trials or self.backend.num_workers + 1

    @property
    def max_slots(self) -> int:
        """Maximum number of trials in progress if a worker would otherwise be idle."""
        return self.max_concurrent_trials or 8 * self.backend.num_workers

    def group_slots(self, trials: int | None) -> int:
        """Return the maximum number of trials in progress if trials are trained together.

        ``trials`` is the total number of trials; None if unknown. They are divided into waves of
        equal size, because a small last wave would take as long as a full one. Call this only for
        tuners whose proposals do not depend on results.
        """
        limit = self.max_concurrent_trials or _GROUP_SLOTS_PER_WORKER * self.backend.num_workers
        if trials is None:
            return limit
        waves = -(-trials // limit)
        return -(-trials // waves)


def parse_columns(argument: str, value: Any) -> Columns | None:
    """Convert a sequence of column names, or of lists of names, to a list.

    If ``value`` is None, return None. Raises ArgumentError, which names ``argument``, if it is
    anything else.
    """
    if value is None:
        return None
    if isinstance(value, str) or not isinstance(value, Sequence):
        raise ArgumentError(f"{argument} must be a list of column names, but got {value!r}")
    names: Columns = []
    for each in value:
        group = [each] if isinstance(each, str) else each
        if isinstance(group, Sequence) and group and all(isinstance(n, str) for n in group):
            names.append(each if isinstance(each, str) else list(each))
        else:
            raise ArgumentError(f"{argument} must hold column names, but got {each!r}")
    return names
