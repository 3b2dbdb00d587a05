"""Metrics of finished epochs, merged from their units' metric variables."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

from cerebros_spark.core.types import EpochResult, MetricVariables


class Merger(Protocol):
    """Merger that computes an epoch's metrics over all rows from its units' metric variables.

    One merger may serve many trials.
    """

    def merge(self, reported: Sequence[Sequence[MetricVariables]]) -> list[dict[str, float]]:
        """Return the merged metrics, by name, of each sequence of units in ``reported``.

        Each sequence contains the metric variables of one epoch's training or validation units.
        """


def merge_epochs(
    finished: Sequence[EpochResult], get_merger: Callable[[str], Merger]
) -> list[dict[str, float]]:
    """Merge the metrics of epochs, with one call per merger; return the logs of each epoch.

    ``get_merger`` returns a trial's merger by trial name.
    """
    mergers = [get_merger(epoch.trial_id) for epoch in finished]
    logs: list[dict[str, float]] = [{} for _ in finished]
    for merger in set(mergers):
        numbers = [number for number, each in enumerate(mergers) if each is merger]
        parts = [(finished[number].train, finished[number].validation) for number in numbers]
        results = merger.merge([units for part in parts for units in part])
        for number, train, validation in zip(numbers, results[::2], results[1::2], strict=True):
            logs[number] = {**train, **{f"val_{name}": v for name, v in validation.items()}}
    return logs
