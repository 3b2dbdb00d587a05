"""Private attributes of Petastorm, as seen in Petastorm 0.13.1."""

from __future__ import annotations

import functools
import inspect
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


def read_without_threads(reader: Any) -> None:
    """Let a Petastorm reader with the pool "dummy" decode files in the calling thread alone.

    One of pyarrow's threads may drop the last reference to a file of Python while the process ends,
    which aborts it (https://github.com/apache/arrow/issues/34314).
    """
    for piece in reader._workers_pool._worker._split_pieces:
        if "use_threads" in inspect.signature(piece.read).parameters:  # pyarrow's own, up to 14
            piece.read = functools.partial(piece.read, use_threads=False)
