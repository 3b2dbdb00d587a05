"""Private attributes of Petastorm, as seen in Petastorm 0.13.1."""

from __future__ import annotations

from typing import Any, Protocol


class ResultsReader(Protocol):
    """The last step of a Petastorm reader: it turns a worker's result into what ``next`` returns.

    Attributes:
        batched_output: Whether a result has many rows.
    """

    batched_output: bool

    def read_next(self, pool: Any, schema: Any, ngram: Any) -> Any:
        """Return the next result, taken from ``pool.get_results()``."""


def replace_results_reader(reader: Any, results_reader: ResultsReader) -> None:
    """Replace the last step of a Petastorm reader."""
    reader._results_queue_reader = results_reader
