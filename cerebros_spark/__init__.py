"""The engine: trains many Keras models at once on data that does not move.

Public names load on first use, so importing the package imports neither TensorFlow, PySpark nor
Petastorm.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cerebros_spark.backends.local import LocalBackend
    from cerebros_spark.backends.spark import SparkBackend
    from cerebros_spark.core.errors import CerebrosError
    from cerebros_spark.storage.hdfs import HDFSStore
    from cerebros_spark.storage.local import LocalStore
    from cerebros_spark.storage.s3 import S3Store
    from cerebros_spark.storage.store import Store

__version__ = "0.1.0"

_PUBLIC = {
    "CerebrosError": "cerebros_spark.core.errors",
    "HDFSStore": "cerebros_spark.storage.hdfs",
    "LocalBackend": "cerebros_spark.backends.local",
    "LocalStore": "cerebros_spark.storage.local",
    "S3Store": "cerebros_spark.storage.s3",
    "SparkBackend": "cerebros_spark.backends.spark",
    "Store": "cerebros_spark.storage.store",
}

__all__ = [
    "CerebrosError",
    "HDFSStore",
    "LocalBackend",
    "LocalStore",
    "S3Store",
    "SparkBackend",
    "Store",
    "__version__",
]


def __getattr__(name: str) -> Any:
    if name not in _PUBLIC:
        raise AttributeError(f"module 'cerebros_spark' has no attribute {name!r}")
    return getattr(import_module(_PUBLIC[name]), name)


def __dir__() -> list[str]:
    return __all__
