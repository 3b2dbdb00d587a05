"""Search as a Spark ML estimator, and its result as a model that Spark ML can save."""

from nas.estimators.spark_ml.estimator import CerebrosEstimator
from nas.estimators.spark_ml.model import CerebrosModel

__all__ = ["CerebrosEstimator", "CerebrosModel"]
