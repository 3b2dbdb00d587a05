"""Errors that the packages raise on purpose.

Each is a :class:`CerebrosError` and also the built-in error it resembles, so ``except ValueError``
catches it without importing this package.
"""

from __future__ import annotations


class CerebrosError(Exception):
    """Base class of the project's errors."""


class ArgumentError(CerebrosError, ValueError):
    """An argument has an invalid value; the message names it."""


class DataError(CerebrosError, ValueError):
    """The data cannot be trained on; the message names the column and the remedy."""


class NotFittedError(CerebrosError, RuntimeError):
    """A search was used before it was fitted."""


class StoreError(CerebrosError, OSError):
    """The store cannot be read or written, or its content is damaged."""


class BackendError(CerebrosError, RuntimeError):
    """The workers cannot be started, or are lost for good."""


class TrialError(CerebrosError, RuntimeError):
    """One trial failed. The search continues without it."""


class SearchError(CerebrosError, RuntimeError):
    """The search as a whole cannot continue."""


class ProtocolError(CerebrosError, RuntimeError):
    """The scheduler received an impossible event: a defect. The message lists the last events."""
