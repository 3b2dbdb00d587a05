"""Limits on a run's trials and time, which may be raised when the run is resumed."""

from __future__ import annotations

import math
from collections.abc import Iterable

import msgspec

from cerebros_spark.core.errors import ArgumentError
from cerebros_spark.runs.journal import Record, RecoveredJournal

EXTENSION = "extension"
"""Kind of the journal record that contains new limits."""


class Limits(msgspec.Struct, frozen=True):
    """Limits of a search: number of trials and duration in seconds. None means unlimited."""

    max_trials: int | None
    max_seconds: float | None = None


def read_limits(records: Iterable[Record]) -> Limits:
    """Return a run's limits from its journal records; the last extension takes precedence."""
    first, *others = records
    extensions = [record for record in others if record["kind"] == EXTENSION]
    return msgspec.convert([first, *extensions][-1], Limits)


def find_extension(recovered: RecoveredJournal, now: Limits, run_id: str) -> Limits | None:
    """Return ``now`` if it raises a limit of the recovered run; otherwise return None.

    Raises:
        ArgumentError: If ``now`` allows fewer trials than before.
    """
    before = read_limits(recovered.records)
    if _to_number(now.max_trials) < _to_number(before.max_trials):
        raise ArgumentError(
            f"the run {run_id!r} has max_trials = {before.max_trials}, and now it is "
            f"{now.max_trials}, but it may only grow. Give another project_name, or overwrite=True "
            "to start again"
        )
    has_more_time = before.max_seconds is not None and (
        _to_number(now.max_seconds) > before.max_seconds
    )
    return now if has_more_time or now.max_trials != before.max_trials else None


def _to_number(limit: float | None) -> float:
    return math.inf if limit is None else limit


def count_seconds(records: Iterable[Record]) -> float:
    """Return the total duration of a run's finished sessions, in seconds."""
    seconds, began = 0.0, None
    for record in records:
        if record["kind"] == "session":
            began = record.get("at")
        elif record["kind"] == "done" and began is not None and "at" in record:
            seconds += record["at"] - began
    return seconds
