"""Neural architecture search on cerebros_spark.

The search decides which networks to train; ``cerebros_spark`` trains them. Start with
:class:`HyperHyperModel`. Public names load on first use; ``__init__.pyi`` lists them.
"""

from __future__ import annotations

from typing import Any

from cerebros_spark.core.lazy_names import attach_stub
from cerebros_spark.training.keras.tensorflow_runtime import prepare_tensorflow

_load, _, _names = attach_stub(__name__, __file__)

__all__ = sorted([*_names, "Replay"])


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module 'nas' has no attribute {name!r}")
    prepare_tensorflow()
    if name == "Replay":  # defined by the engine
        from cerebros_spark.engine.replay import Replay

        return Replay
    return _load(name)


def __dir__() -> list[str]:
    return [*__all__]
