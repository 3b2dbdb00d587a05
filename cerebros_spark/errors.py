"""Exceptions that the packages raise."""

from cerebros_spark.core.errors import (
    ArgumentError,
    BackendError,
    CerebrosError,
    DataError,
    NotFittedError,
    ProtocolError,
    SearchError,
    StoreError,
    TrialError,
)

__all__ = [
    "ArgumentError",
    "BackendError",
    "CerebrosError",
    "DataError",
    "NotFittedError",
    "ProtocolError",
    "SearchError",
    "StoreError",
    "TrialError",
]
