from .backends.java_home import set_java_home
from .backends.local import LocalBackend
from .backends.spark import SparkBackend
from .backends.spark_session import start_spark
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
    "set_java_home",
    "start_spark",
]

__version__: str
