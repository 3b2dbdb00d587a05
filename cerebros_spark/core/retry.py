"""Trying again what may pass."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import tenacity

_T = TypeVar("_T")


def retried(attempt: Callable[[], _T], **how: Any) -> _T:
    """What the call gives, if need be at a later try; in the end, what it raised last.

    The first try is made without any machinery: in a process that has trained meanwhile, that
    alone costs 0.2 ms, and every hop comes by here several times.

    Args:
        attempt: The call.
        **how: Arguments of :class:`tenacity.Retrying`, which count the first try too.
    """
    try:
        return attempt()
    except Exception as error:
        failed = [error]

    def again() -> _T:
        if failed:
            raise failed.pop()
        return attempt()

    return tenacity.Retrying(reraise=True, **how)(again)
