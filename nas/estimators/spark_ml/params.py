"""The parameters of CerebrosEstimator and CerebrosModel, as Spark ML has them."""

from __future__ import annotations

from typing import Any

from pyspark.ml.param import Param, Params, TypeConverters
from pyspark.ml.param.shared import (
    HasFeaturesCol,
    HasLabelCol,
    HasPredictionCol,
    HasProbabilityCol,
    HasSeed,
    HasValidationIndicatorCol,
    HasWeightCol,
)


class ScoringParams(HasFeaturesCol, HasPredictionCol, HasProbabilityCol):
    """What the estimator and its model share.

    ``featuresCol`` (``"features"``) is an array, a vector or a number; ``featuresCols``, where it
    is set, are several such columns that are put side by side instead. ``predictionCol``
    (``"prediction"``) and, for classes, ``probabilityCol`` (``"probability"``) are added; the one
    whose name is ``""`` is left out.
    """

    featuresCols: Param[Any] = Param(
        Params._dummy(),
        "featuresCols",
        "names of columns that are put side by side, instead of featuresCol.",
        typeConverter=TypeConverters.toListString,
    )

    def getFeaturesCols(self) -> list[str]:
        """The columns with the features: ``featuresCols``, or ``featuresCol`` alone."""
        if self.isDefined(self.featuresCols):
            return list(self.getOrDefault(self.featuresCols))
        return [self.getFeaturesCol()]

    def setFeaturesCol(self, value: str) -> Any:
        """Sets ``featuresCol``."""
        return self._set(featuresCol=value)

    def setFeaturesCols(self, value: list[str]) -> Any:
        """Sets ``featuresCols``."""
        return self._set(featuresCols=value)

    def setPredictionCol(self, value: str) -> Any:
        """Sets ``predictionCol``."""
        return self._set(predictionCol=value)

    def setProbabilityCol(self, value: str) -> Any:
        """Sets ``probabilityCol``."""
        return self._set(probabilityCol=value)


class SearchParams(ScoringParams, HasLabelCol, HasSeed, HasValidationIndicatorCol, HasWeightCol):
    """What the search goes by.

    ``labelCol`` (``"label"``), ``validationIndicatorCol`` (a boolean column that marks the rows
    that validate, instead of the fraction ``validation``), ``weightCol`` (what each row counts in
    the losses) and ``seed`` (0) are Spark ML's own.
    """

    problemType: Param[Any] = Param(
        Params._dummy(),
        "problemType",
        "'classification' (class numbers or one-hot vectors) or 'regression'; must be set.",
        typeConverter=TypeConverters.toString,
    )
    numWorkers: Param[Any] = Param(
        Params._dummy(),
        "numWorkers",
        "workers that train, each with a partition of the rows.",
        typeConverter=TypeConverters.toInt,
    )
    storePath: Param[Any] = Param(
        Params._dummy(),
        "storePath",
        "folder or URL of the store, seen by driver and workers; a temporary folder of "
        "this machine, for local masters, if it is not set.",
        typeConverter=TypeConverters.toString,
    )
    projectName: Param[Any] = Param(
        Params._dummy(),
        "projectName",
        "name of the run in the store; fit goes on with a run of that name. A new one for "
        "each fit if it is not set.",
        typeConverter=TypeConverters.toString,
    )
    tuner: Param[Any] = Param(
        Params._dummy(),
        "tuner",
        "name of the tuner.",
        typeConverter=TypeConverters.toString,
    )
    objective: Param[Any] = Param(
        Params._dummy(),
        "objective",
        "metric that is optimized.",
        typeConverter=TypeConverters.toString,
    )
    maxTrials: Param[Any] = Param(
        Params._dummy(),
        "maxTrials",
        "number of networks that are tried.",
        typeConverter=TypeConverters.toInt,
    )
    epochs: Param[Any] = Param(
        Params._dummy(),
        "epochs",
        "epochs of a trial; if it is not set, a trial ends when its val_loss does not get better.",
        typeConverter=TypeConverters.toInt,
    )
    batchSize: Param[Any] = Param(
        Params._dummy(),
        "batchSize",
        "rows in a training step.",
        typeConverter=TypeConverters.toInt,
    )
    validation: Param[Any] = Param(
        Params._dummy(),
        "validation",
        "fraction of the rows that validate.",
        typeConverter=TypeConverters.toFloat,
    )
    reproducible: Param[Any] = Param(
        Params._dummy(),
        "reproducible",
        "whether the search repeats bit for bit.",
        typeConverter=TypeConverters.toBoolean,
    )

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

    def getProblemType(self) -> str | None:
        """Gets ``problemType``; None if it is not set."""
        return self._found(self.problemType)

    def setProblemType(self, value: str) -> Any:
        """Sets ``problemType``."""
        return self._set(problemType=value)

    def getNumWorkers(self) -> int:
        """Gets ``numWorkers``."""
        return self.getOrDefault(self.numWorkers)

    def setNumWorkers(self, value: int) -> Any:
        """Sets ``numWorkers``."""
        return self._set(numWorkers=value)

    def getStorePath(self) -> str | None:
        """Gets ``storePath``; None if it is not set."""
        return self._found(self.storePath)

    def setStorePath(self, value: str) -> Any:
        """Sets ``storePath``."""
        return self._set(storePath=value)

    def getProjectName(self) -> str | None:
        """Gets ``projectName``; None if it is not set."""
        return self._found(self.projectName)

    def setProjectName(self, value: str) -> Any:
        """Sets ``projectName``."""
        return self._set(projectName=value)

    def getTuner(self) -> str:
        """Gets ``tuner``."""
        return self.getOrDefault(self.tuner)

    def setTuner(self, value: str) -> Any:
        """Sets ``tuner``."""
        return self._set(tuner=value)

    def getObjective(self) -> str:
        """Gets ``objective``."""
        return self.getOrDefault(self.objective)

    def setObjective(self, value: str) -> Any:
        """Sets ``objective``."""
        return self._set(objective=value)

    def getMaxTrials(self) -> int:
        """Gets ``maxTrials``."""
        return self.getOrDefault(self.maxTrials)

    def setMaxTrials(self, value: int) -> Any:
        """Sets ``maxTrials``."""
        return self._set(maxTrials=value)

    def getEpochs(self) -> int | None:
        """Gets ``epochs``; None if it is not set."""
        return self._found(self.epochs)

    def setEpochs(self, value: int) -> Any:
        """Sets ``epochs``."""
        return self._set(epochs=value)

    def getBatchSize(self) -> int:
        """Gets ``batchSize``."""
        return self.getOrDefault(self.batchSize)

    def setBatchSize(self, value: int) -> Any:
        """Sets ``batchSize``."""
        return self._set(batchSize=value)

    def getValidation(self) -> float:
        """Gets ``validation``."""
        return self.getOrDefault(self.validation)

    def setValidation(self, value: float) -> Any:
        """Sets ``validation``."""
        return self._set(validation=value)

    def getReproducible(self) -> bool:
        """Gets ``reproducible``."""
        return self.getOrDefault(self.reproducible)

    def setReproducible(self, value: bool) -> Any:
        """Sets ``reproducible``."""
        return self._set(reproducible=value)

    def setLabelCol(self, value: str) -> Any:
        """Sets ``labelCol``."""
        return self._set(labelCol=value)

    def setValidationIndicatorCol(self, value: str) -> Any:
        """Sets ``validationIndicatorCol``."""
        return self._set(validationIndicatorCol=value)

    def setWeightCol(self, value: str) -> Any:
        """Sets ``weightCol``."""
        return self._set(weightCol=value)

    def setSeed(self, value: int) -> Any:
        """Sets ``seed``."""
        return self._set(seed=value)

    def _found(self, param: Any) -> Any:
        return self.getOrDefault(param) if self.isDefined(param) else None
