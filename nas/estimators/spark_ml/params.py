"""Spark ML parameters of CerebrosEstimator and CerebrosModel."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
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


def _make_getter(name: str, kind: type[_T]) -> Callable[[Any], _T]:
    """Return the getter method of the parameter ``name``, such as ``getTuner``."""

    def get(self: Any) -> Any:
        return self.getOrDefault(name)

    return _describe(get, "get", name, f"Return ``{name}``.")


def _make_optional_getter(name: str, kind: type[_T]) -> Callable[[Any], _T | None]:
    """Return the getter method of a parameter; the getter returns None if it is not set."""

    def get(self: Any) -> Any:
        return self.get_or_none(name)

    return _describe(get, "get", name, f"Return ``{name}``; None if it is not set.")


def _make_setter(name: str, kind: type[_T]) -> Callable[[Any, _T], Any]:
    """Return the setter method of the parameter ``name``, such as ``setTuner``."""

    def set_(self: Any, value: Any) -> Any:
        return self._set(**{name: value})

    return _describe(set_, "set", name, f"Set ``{name}`` and return the instance.")


def _describe(method: Callable[..., Any], verb: str, name: str, doc: str) -> Any:
    method.__name__ = method.__qualname__ = f"{verb}{name[0].upper()}{name[1:]}"
    method.__doc__ = doc
    return method


def _to_kinds(value: Any) -> dict[str, str]:
    """Convert a dict of strings, or its JSON text, to a dict; raise TypeError if it is neither."""
    try:
        kinds = json.loads(value) if isinstance(value, str) else value
    except ValueError as error:
        raise TypeError(f"columnTypes must be a dict or its JSON, but got {value!r}") from error
    is_dict = isinstance(kinds, Mapping)
    if not is_dict or not all(isinstance(each, str) for pair in kinds.items() for each in pair):
        raise TypeError(f"columnTypes must be a dict of strings, but got {value!r}")
    return dict(kinds)


class ScoringParams(HasFeaturesCol, HasPredictionCol, HasProbabilityCol):
    """Parameters that the estimator and its model share.

    ``featuresCol`` (default ``"features"``) is a column of arrays, vectors or numbers. If
    ``featuresCols`` is set, its columns are used instead. They may have any type: numbers, strings,
    booleans, dates, arrays or vectors, with or without nulls.

    The model adds ``predictionCol`` (default ``"prediction"``) and, for a classification,
    ``probabilityCol`` (default ``"probability"``). If the classes are not the numbers 0, 1, 2 …, it
    also adds ``predictedLabelCol`` (default ``"predictedLabel"``). A column named ``""`` is not
    added.
    """

    featuresCols = declare_param(
        "featuresCols",
        "names of columns of any type that are used together, instead of featuresCol.",
        TypeConverters.toListString,
    )
    predictedLabelCol = declare_param(
        "predictedLabelCol",
        "name of the column with the predicted class itself, if classes are not 0, 1, 2 …",
        TypeConverters.toString,
    )

    setFeaturesCol = _make_setter("featuresCol", str)
    setFeaturesCols = _make_setter("featuresCols", list[str])
    setPredictionCol = _make_setter("predictionCol", str)
    setProbabilityCol = _make_setter("probabilityCol", str)
    getPredictedLabelCol = _make_getter("predictedLabelCol", str)
    setPredictedLabelCol = _make_setter("predictedLabelCol", str)

    def __init__(self) -> None:
        super().__init__()
        self._setDefault(predictedLabelCol="predictedLabel")

    def getFeaturesCols(self) -> list[str]:
        """Return the feature column names: ``featuresCols`` if set, otherwise ``featuresCol``."""
        return list(self.get_or_none("featuresCols") or [self.getFeaturesCol()])

    def get_or_none(self, name: str) -> Any:
        """Return the value or default of a parameter; None if it has neither."""
        param = self.getParam(name)
        return self.getOrDefault(param) if self.isDefined(param) else None


class SearchParams(ScoringParams, HasLabelCol, HasSeed, HasValidationIndicatorCol, HasWeightCol):
    """Parameters of the search, in addition to those of its model.

    The following are shared parameters of Spark ML: ``labelCol`` (default ``"label"``; the labels
    of a classification may have any type), ``validationIndicatorCol`` (a boolean column that marks
    validation rows; it replaces the fraction ``validation``), ``weightCol`` (sample weights for the
    losses) and ``seed`` (default 0).
    """

    problemType = declare_param(
        "problemType",
        "'classification' (classes of any type, or one-hot vectors) or 'regression'; must be set.",
        TypeConverters.toString,
    )
    numWorkers = declare_param(
        "numWorkers", "number of workers, each with a partition of the rows.", TypeConverters.toInt
    )
    storePath = declare_param(
        "storePath",
        "folder or URL of the store, which driver and workers can reach. If it is not set, a "
        "temporary folder of this machine, which only suits local masters.",
        TypeConverters.toString,
    )
    projectName = declare_param(
        "projectName",
        "name of the run in the store; fit resumes a run of that name. If it is not set, each fit "
        "has a new name.",
        TypeConverters.toString,
    )
    tuner = declare_param("tuner", "name of the tuner.", TypeConverters.toString)
    objective = declare_param("objective", "metric to optimize.", TypeConverters.toString)
    maxTrials = declare_param("maxTrials", "maximum number of trials.", TypeConverters.toInt)
    epochs = declare_param(
        "epochs",
        "maximum number of epochs of a trial. If it is not set, 6 to 128, fewer for larger tables.",
        TypeConverters.toInt,
    )
    batchSize = declare_param(
        "batchSize",
        "rows per training step. If it is not set, a number that suits the table.",
        TypeConverters.toInt,
    )
    maxSeconds = declare_param(
        "maxSeconds",
        "limit of the seconds that fit takes. If it is not set, there is none.",
        TypeConverters.toFloat,
    )
    validation = declare_param(
        "validation",
        "fraction of validation rows. If it is not set, it is 0.2, and the best configurations are "
        "cross-validated if the table is small.",
        TypeConverters.toFloat,
    )
    groupCol = declare_param(
        "groupCol",
        "column whose groups are not split: all rows of a group train, or all validate. If it is "
        "not set, rows are split by themselves.",
        TypeConverters.toString,
    )
    timeCol = declare_param(
        "timeCol",
        "column of dates, times or numbers: the latest rows validate. If it is not set, random "
        "rows do.",
        TypeConverters.toString,
    )
    reproducible = declare_param(
        "reproducible", "whether results are bit-for-bit repeatable.", TypeConverters.toBoolean
    )

    columnTypes = declare_param(
        "columnTypes",
        "dict, or its JSON, of kinds of columns by name, where Spark's types are not enough: "
        "'numerical', 'categorical', 'boolean', 'datetime', 'vector', or 'ignore' to leave a "
        "column out.",
        _to_kinds,
    )

    getProblemType = _make_optional_getter("problemType", str)
    getNumWorkers = _make_getter("numWorkers", int)
    getStorePath = _make_optional_getter("storePath", str)
    getProjectName = _make_optional_getter("projectName", str)
    getTuner = _make_getter("tuner", str)
    getObjective = _make_getter("objective", str)
    getMaxTrials = _make_getter("maxTrials", int)
    getEpochs = _make_optional_getter("epochs", int)
    getBatchSize = _make_optional_getter("batchSize", int)
    getMaxSeconds = _make_optional_getter("maxSeconds", float)
    getValidation = _make_getter("validation", float)
    getGroupCol = _make_optional_getter("groupCol", str)
    getTimeCol = _make_optional_getter("timeCol", str)
    getReproducible = _make_getter("reproducible", bool)
    getColumnTypes = _make_optional_getter("columnTypes", dict[str, str])
    setProblemType = _make_setter("problemType", str)
    setNumWorkers = _make_setter("numWorkers", int)
    setStorePath = _make_setter("storePath", str)
    setProjectName = _make_setter("projectName", str)
    setTuner = _make_setter("tuner", str)
    setObjective = _make_setter("objective", str)
    setMaxTrials = _make_setter("maxTrials", int)
    setEpochs = _make_setter("epochs", int)
    setBatchSize = _make_setter("batchSize", int)
    setMaxSeconds = _make_setter("maxSeconds", float)
    setValidation = _make_setter("validation", float)
    setGroupCol = _make_setter("groupCol", str)
    setTimeCol = _make_setter("timeCol", str)
    setReproducible = _make_setter("reproducible", bool)
    setColumnTypes = _make_setter("columnTypes", dict[str, str])
    setLabelCol = _make_setter("labelCol", str)
    setValidationIndicatorCol = _make_setter("validationIndicatorCol", str)
    setWeightCol = _make_setter("weightCol", str)
    setSeed = _make_setter("seed", int)

    def __init__(self) -> None:
        super().__init__()
        self._setDefault(
            numWorkers=2,
            tuner="auto",
            objective="val_loss",
            maxTrials=10,
            validation=0.2,
            reproducible=False,
            seed=0,
        )
