"""Retries for transient errors."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import tenacity

_T = TypeVar("_T")


def call_with_retry(attempt: Callable[[], _T], **options: Any) -> _T:
    """Call ``attempt`` and return its result, with the retries of ``tenacity.Retrying(**options)``.

    If all attempts fail, the last error is raised. The first attempt bypasses tenacity, which would
    cost 0.2 ms per call; every hop makes several such calls.
    """
    try:
        return attempt()
    except Exception as error:
        first_error = [error]

    def replay_first_error() -> _T:
        if first_error:
            raise first_error.pop()
        return attempt()

    return tenacity.Retrying(reraise=True, **options)(replay_first_error)
