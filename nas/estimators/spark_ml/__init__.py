"""Searches with Spark ML's face: CerebrosEstimator and CerebrosModel.

``params`` has their parameters, ``estimator`` searches, ``model`` scores, ``saving`` writes and
reads a model.
"""

from nas.estimators.spark_ml.estimator import CerebrosEstimator
from nas.estimators.spark_ml.model import CerebrosModel

__all__ = ["CerebrosEstimator", "CerebrosModel"]
