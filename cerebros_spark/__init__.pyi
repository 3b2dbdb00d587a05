from .backends.local import LocalBackend
from .backends.spark import SparkBackend
from .compat.petastorm.loading import load_petastorm
from .engine.replay import Replay
from .errors import (
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
from .storage.hdfs import HDFSStore
from .storage.local import LocalStore
from .storage.s3 import S3Store
from .storage.store import Store

__all__ = [
    "ArgumentError",
    "BackendError",
    "CerebrosError",
    "DataError",
    "HDFSStore",
    "LocalBackend",
    "LocalStore",
    "NotFittedError",
    "ProtocolError",
    "Replay",
    "S3Store",
    "SearchError",
    "SparkBackend",
    "Store",
    "StoreError",
    "TrialError",
    "__version__",
    "load_petastorm",
]

__version__: str
