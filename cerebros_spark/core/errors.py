"""Every error this project raises on purpose.

All of them are :class:`CerebrosError`, and each is also the builtin it resembles, so that
``except ValueError`` keeps working for someone who has never heard of this package.
"""

from __future__ import annotations


class CerebrosError(Exception):
    """Root of the project's errors."""


class ArgumentError(CerebrosError, ValueError):
    """An argument has a value that can't be used; the message names it."""


class DataError(CerebrosError, ValueError):
    """The data can't be trained on; the message names the column and what to do."""


class NotFittedError(CerebrosError, RuntimeError):
    """Something was asked of a search that has not been fitted."""


class StoreError(CerebrosError, OSError):
    """The store can't be written, read, or is not what was written."""


class BackendError(CerebrosError, RuntimeError):
    """The workers can't be had, or went away for good."""


class TrialError(CerebrosError, RuntimeError):
    """One trial failed. The search goes on without it."""


class SearchError(CerebrosError, RuntimeError):
    """The search as a whole can't go on."""


class ProtocolError(CerebrosError, RuntimeError):
    """An impossible event reached the scheduler: a defect, told with the story so far."""
