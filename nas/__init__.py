"""nas: neural architecture search on cerebros_spark.

The public names load on first use.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from cerebros_spark.training.devices import load_tensorflow

if TYPE_CHECKING:
    from nas.hyperhypermodel import HyperHyperModel
    from nas.result import ModelSelectionResult
    from nas.spaces.cerebros import CerebrosBlock, CerebrosSpace
    from nas.spaces.small_blocks import SmallImageBlock, TokenBlock

_PUBLIC = {
    "CerebrosBlock": "nas.spaces.cerebros",
    "CerebrosSpace": "nas.spaces.cerebros",
    "HyperHyperModel": "nas.hyperhypermodel",
    "ModelSelectionResult": "nas.result",
    "SmallImageBlock": "nas.spaces.small_blocks",
    "TokenBlock": "nas.spaces.small_blocks",
}

__all__ = [
    "CerebrosBlock",
    "CerebrosSpace",
    "HyperHyperModel",
    "ModelSelectionResult",
    "SmallImageBlock",
    "TokenBlock",
]


def __getattr__(name: str) -> Any:
    if name not in _PUBLIC:
        raise AttributeError(f"module 'nas' has no attribute {name!r}")
    load_tensorflow()
    return getattr(import_module(_PUBLIC[name]), name)


def __dir__() -> list[str]:
    return __all__
