"""Access to private attributes of Petastorm, verified with version 0.13.1."""

from __future__ import annotations

import functools
import inspect
from typing import Any, Protocol


class ResultsReader(Protocol):
    """Last step of a Petastorm reader: converts a worker's result to what ``next`` returns.

    Attributes:
        batched_output: Whether each result is a batch of rows instead of one row.
    """

    batched_output: bool

    def read_next(self, pool: Any, schema: Any, ngram: Any) -> Any:
        """Return the next result of ``pool.get_results()``, converted."""


def replace_results_reader(reader: Any, results_reader: ResultsReader) -> None:
    """Replace the last step of a Petastorm reader, which converts the workers' results."""
    reader._results_queue_reader = results_reader


def read_without_threads(reader: Any) -> None:
    """Make a Petastorm reader with the "dummy" pool decode files only in the calling thread.

    Otherwise a pyarrow thread may drop the last reference to a Python file while the process ends,
    which aborts the process (https://github.com/apache/arrow/issues/34314).
    """
    for piece in reader._workers_pool._worker._split_pieces:
        if "use_threads" in inspect.signature(piece.read).parameters:  # pyarrow's own, up to 14
            piece.read = functools.partial(piece.read, use_threads=False)
