"""Parameters of CerebrosEstimator and CerebrosModel, in the manner of Spark ML."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from pyspark.ml.param import TypeConverters
from pyspark.ml.param.shared import (
    HasFeaturesCol,
    HasLabelCol,
    HasPredictionCol,
    HasProbabilityCol,
    HasSeed,
    HasValidationIndicatorCol,
    HasWeightCol,
)

from cerebros_spark.compat.pyspark import declare_param

_T = TypeVar("_T")


def _getter(name: str, kind: type[_T]) -> Callable[[Any], _T]:
    """Return the method ``getName`` of a parameter."""

    def get(self: Any) -> Any:
        return self.getOrDefault(name)

    return _describe(get, "get", name, f"Return ``{name}``.")


def _optional_getter(name: str, kind: type[_T]) -> Callable[[Any], _T | None]:
    """Return the method ``getName`` of a parameter that may have no value."""

    def get(self: Any) -> Any:
        return self.get_or_none(name)

    return _describe(get, "get", name, f"Return ``{name}``; None if it is not set.")


def _setter(name: str, kind: type[_T]) -> Callable[[Any, _T], Any]:
    """Return the method ``setName`` of a parameter."""

    def set_(self: Any, value: Any) -> Any:
        return self._set(**{name: value})

    return _describe(set_, "set", name, f"Set ``{name}`` and return the instance.")


def _describe(method: Callable[..., Any], verb: str, name: str, doc: str) -> Any:
    method.__name__ = method.__qualname__ = f"{verb}{name[0].upper()}{name[1:]}"
    method.__doc__ = doc
    return method


class ScoringParams(HasFeaturesCol, HasPredictionCol, HasProbabilityCol):
    """Parameters of the estimator and of its model.

    ``featuresCol`` (``"features"``) is an array, a vector or a number; ``featuresCols``, if it is
    set, names several such columns to concatenate instead. ``predictionCol`` (``"prediction"``)
    and, for classes, ``probabilityCol`` (``"probability"``) are added; one named ``""`` is not.
    """

    featuresCols = declare_param(
        "featuresCols",
        "names of columns that are concatenated, instead of featuresCol.",
        TypeConverters.toListString,
    )

    setFeaturesCol = _setter("featuresCol", str)
    setFeaturesCols = _setter("featuresCols", list[str])
    setPredictionCol = _setter("predictionCol", str)
    setProbabilityCol = _setter("probabilityCol", str)

    def getFeaturesCols(self) -> list[str]:
        """Return the feature columns: ``featuresCols``, or ``featuresCol`` alone."""
        return list(self.get_or_none("featuresCols") or [self.getFeaturesCol()])

    def get_or_none(self, name: str) -> Any:
        """Return the value or default of a parameter; None if it has none."""
        param = self.getParam(name)
        return self.getOrDefault(param) if self.isDefined(param) else None


class SearchParams(ScoringParams, HasLabelCol, HasSeed, HasValidationIndicatorCol, HasWeightCol):
    """Parameters of the search.

    ``labelCol`` (``"label"``), ``validationIndicatorCol`` (a boolean column that marks validation
    rows, instead of the fraction ``validation``), ``weightCol`` (weights of the rows in the losses)
    and ``seed`` (0) are those of Spark ML.
    """

    problemType = declare_param(
        "problemType",
        "'classification' (class numbers or one-hot vectors) or 'regression'; must be set.",
        TypeConverters.toString,
    )
    numWorkers = declare_param(
        "numWorkers", "number of workers, each with a partition of the rows.", TypeConverters.toInt
    )
    storePath = declare_param(
        "storePath",
        "folder or URL of the store, which driver and workers can reach; a temporary folder of "
        "this machine, for local masters, if it is not set.",
        TypeConverters.toString,
    )
    projectName = declare_param(
        "projectName",
        "name of the run in the store; fit resumes a run of that name. A new name for each fit if "
        "it is not set.",
        TypeConverters.toString,
    )
    tuner = declare_param("tuner", "name of the tuner.", TypeConverters.toString)
    objective = declare_param("objective", "metric to optimize.", TypeConverters.toString)
    maxTrials = declare_param("maxTrials", "number of networks.", TypeConverters.toInt)
    epochs = declare_param(
        "epochs",
        "limit of epochs of a trial; if it is not set, a trial ends when its val_loss does not get "
        "better.",
        TypeConverters.toInt,
    )
    batchSize = declare_param("batchSize", "rows in a training step.", TypeConverters.toInt)
    validation = declare_param("validation", "fraction of validation rows.", TypeConverters.toFloat)
    reproducible = declare_param(
        "reproducible", "whether the search repeats bit for bit.", TypeConverters.toBoolean
    )

    getProblemType = _optional_getter("problemType", str)
    getNumWorkers = _getter("numWorkers", int)
    getStorePath = _optional_getter("storePath", str)
    getProjectName = _optional_getter("projectName", str)
    getTuner = _getter("tuner", str)
    getObjective = _getter("objective", str)
    getMaxTrials = _getter("maxTrials", int)
    getEpochs = _optional_getter("epochs", int)
    getBatchSize = _getter("batchSize", int)
    getValidation = _getter("validation", float)
    getReproducible = _getter("reproducible", bool)
    setProblemType = _setter("problemType", str)
    setNumWorkers = _setter("numWorkers", int)
    setStorePath = _setter("storePath", str)
    setProjectName = _setter("projectName", str)
    setTuner = _setter("tuner", str)
    setObjective = _setter("objective", str)
    setMaxTrials = _setter("maxTrials", int)
    setEpochs = _setter("epochs", int)
    setBatchSize = _setter("batchSize", int)
    setValidation = _setter("validation", float)
    setReproducible = _setter("reproducible", bool)
    setLabelCol = _setter("labelCol", str)
    setValidationIndicatorCol = _setter("validationIndicatorCol", str)
    setWeightCol = _setter("weightCol", str)
    setSeed = _setter("seed", int)

    def __init__(self) -> None:
        super().__init__()
        self._setDefault(
            numWorkers=2,
            tuner="random",
            objective="val_loss",
            maxTrials=10,
            batchSize=32,
            validation=0.2,
            reproducible=False,
            seed=0,
        )
