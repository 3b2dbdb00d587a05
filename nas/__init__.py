"""Neural architecture search on cerebros_spark.

The search decides which networks to train; ``cerebros_spark`` trains them. Start with
:class:`HyperHyperModel`. Public names load on first use.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from cerebros_spark.training.keras.tensorflow_runtime import load_tensorflow

if TYPE_CHECKING:
    from nas.drawing import draw_network
    from nas.estimators.cerebros_search import DenseUnit, SimpleCerebrosRandomSearch
    from nas.estimators.sklearn import CerebrosClassifier, CerebrosRegressor
    from nas.estimators.spark_ml import CerebrosEstimator, CerebrosModel
    from nas.hyperhypermodel import HyperHyperModel
    from nas.monitoring.mlflow import MLflowLogger
    from nas.results.result import ModelSelectionResult
    from nas.spaces.autokeras.blocks import SmallImageBlock, TokenBlock
    from nas.spaces.cerebros import CerebrosBlock, CerebrosSpace
    from nas.spaces.cerebros.decay import simple_sigmoid, zero_7_exp_decay, zero_95_exp_decay
    from nas.spaces.fixed_model import FixedModel
    from nas.spaces.residual_mlp import ResidualMLP, ResidualMLPBlock

_PUBLIC = {
    "CerebrosBlock": "nas.spaces.cerebros",
    "CerebrosClassifier": "nas.estimators.sklearn",
    "CerebrosEstimator": "nas.estimators.spark_ml",
    "CerebrosModel": "nas.estimators.spark_ml",
    "CerebrosRegressor": "nas.estimators.sklearn",
    "CerebrosSpace": "nas.spaces.cerebros",
    "DenseUnit": "nas.estimators.cerebros_search",
    "FixedModel": "nas.spaces.fixed_model",
    "HyperHyperModel": "nas.hyperhypermodel",
    "MLflowLogger": "nas.monitoring.mlflow",
    "ModelSelectionResult": "nas.results.result",
    "ResidualMLP": "nas.spaces.residual_mlp",
    "ResidualMLPBlock": "nas.spaces.residual_mlp",
    "SimpleCerebrosRandomSearch": "nas.estimators.cerebros_search",
    "SmallImageBlock": "nas.spaces.autokeras.blocks",
    "TokenBlock": "nas.spaces.autokeras.blocks",
    "draw_network": "nas.drawing",
    "simple_sigmoid": "nas.spaces.cerebros.decay",
    "zero_7_exp_decay": "nas.spaces.cerebros.decay",
    "zero_95_exp_decay": "nas.spaces.cerebros.decay",
}

__all__ = [
    "CerebrosBlock",
    "CerebrosClassifier",
    "CerebrosEstimator",
    "CerebrosModel",
    "CerebrosRegressor",
    "CerebrosSpace",
    "DenseUnit",
    "FixedModel",
    "HyperHyperModel",
    "MLflowLogger",
    "ModelSelectionResult",
    "ResidualMLP",
    "ResidualMLPBlock",
    "SimpleCerebrosRandomSearch",
    "SmallImageBlock",
    "TokenBlock",
    "draw_network",
    "simple_sigmoid",
    "zero_7_exp_decay",
    "zero_95_exp_decay",
]


def __getattr__(name: str) -> Any:
    if name not in _PUBLIC:
        raise AttributeError(f"module 'nas' has no attribute {name!r}")
    load_tensorflow()
    return getattr(import_module(_PUBLIC[name]), name)


def __dir__() -> list[str]:
    return __all__
