"""Errors that the packages raise deliberately.

Each is a :class:`CerebrosError` and also the built-in error that it resembles. So ``except
ValueError`` catches an :class:`ArgumentError` without importing this package.
"""

from __future__ import annotations


class CerebrosError(Exception):
    """Base class of all errors of this project."""


class ArgumentError(CerebrosError, ValueError):
    """Error for an argument with an invalid value."""


class DataError(CerebrosError, ValueError):
    """Error for unusable data; the message names the column and the remedy."""


class NotFittedError(CerebrosError, RuntimeError):
    """Error for using a search before it is fitted."""


class StoreError(CerebrosError, OSError):
    """Error for a store that cannot be read or written, or that is damaged."""


class BackendError(CerebrosError, RuntimeError):
    """Error for workers that cannot be started, or are permanently lost."""


class TrialError(CerebrosError, RuntimeError):
    """Error of a single trial; the search continues without the trial."""


class SearchError(CerebrosError, RuntimeError):
    """Error that ends the whole search."""


class ProtocolError(CerebrosError, RuntimeError):
    """Error for an event that contradicts the scheduler's state, which indicates a bug.

    The message lists the last events.
    """
