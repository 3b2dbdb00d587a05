"""Engine that trains many Keras models at once, while each worker keeps its data partition.

The public names, listed in ``__init__.pyi``, are loaded on first use, so importing the package does
not import TensorFlow, PySpark or Petastorm.
"""

from __future__ import annotations

from typing import Any

from cerebros_spark.core.lazy_names import attach_stub

__version__ = "0.1.0"

_load, _, _names = attach_stub(__name__, __file__)

__all__ = sorted([*_names, "__version__"])


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module 'cerebros_spark' has no attribute {name!r}")
    return _load(name)


def __dir__() -> list[str]:
    return [*__all__]
