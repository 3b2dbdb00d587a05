"""Retries for transient errors."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import tenacity

_T = TypeVar("_T")


def call_with_retry(attempt: Callable[[], _T], **options: Any) -> _T:
    """Return what a call returns, retrying it as :class:`tenacity.Retrying` is told to.

    The first call bypasses tenacity, which costs 0.2 ms in a process that has trained. Every hop
    makes several such calls.

    Args:
        attempt: The call.
        **options: Arguments of :class:`tenacity.Retrying`, which count the first call too.

    Raises:
        Exception: What the last call raised.
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
