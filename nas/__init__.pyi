import cerebros_spark

from .drawing import draw_network
from .ensemble.ensemble import Ensemble
from .estimators.cerebros_search import DenseUnit, SimpleCerebrosRandomSearch
from .estimators.sklearn import CerebrosClassifier, CerebrosRegressor
from .estimators.spark_ml import CerebrosEstimator, CerebrosModel
from .hyperhypermodel import HyperHyperModel
from .monitoring.mlflow import MLflowLogger
from .monitoring.observer import SearchInfo, SearchObserver
from .results.result import ModelSelectionResult
from .spaces.autokeras.blocks import SmallImageBlock, TokenBlock
from .spaces.base import Space
from .spaces.cerebros import CerebrosBlock, CerebrosSpace
from .spaces.cerebros.decay import simple_sigmoid, zero_7_exp_decay, zero_95_exp_decay
from .spaces.cerebros.plan import NetworkFuture
from .spaces.fixed_model import FixedModel
from .spaces.residual_mlp import ResidualMLP, ResidualMLPBlock
from .spaces.tabular.space import TabularSpace
from .trial.proposal import Pause, Proposal, Tuner
from .trial.record import TrialRecord

__all__ = [
    "CerebrosBlock",
    "CerebrosClassifier",
    "CerebrosEstimator",
    "CerebrosModel",
    "CerebrosRegressor",
    "CerebrosSpace",
    "DenseUnit",
    "Ensemble",
    "FixedModel",
    "HyperHyperModel",
    "MLflowLogger",
    "ModelSelectionResult",
    "NetworkFuture",
    "Pause",
    "Proposal",
    "Replay",
    "ResidualMLP",
    "ResidualMLPBlock",
    "SearchInfo",
    "SearchObserver",
    "SimpleCerebrosRandomSearch",
    "SmallImageBlock",
    "Space",
    "TabularSpace",
    "TokenBlock",
    "TrialRecord",
    "Tuner",
    "draw_network",
    "simple_sigmoid",
    "zero_7_exp_decay",
    "zero_95_exp_decay",
]

Replay = cerebros_spark.Replay
