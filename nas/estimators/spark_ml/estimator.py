"""CerebrosEstimator: a search as a Spark ML estimator."""

from __future__ import annotations

import logging
import uuid
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import autokeras as ak
from pyspark.ml import Estimator
from pyspark.ml.util import DefaultParamsReadable, DefaultParamsWritable

from cerebros_spark.backends.spark import SparkBackend
from cerebros_spark.backends.spark_stack import check_classic
from cerebros_spark.core.errors import ArgumentError
from cerebros_spark.storage.store import Store
from nas.config.binding import AUTO
from nas.estimators.spark_ml.model import CerebrosModel
from nas.estimators.spark_ml.params import SearchParams
from nas.estimators.temp_store import search_in_store
from nas.hyperhypermodel import HyperHyperModel
from nas.results.result import ModelSelectionResult

if TYPE_CHECKING:
    from pyspark.sql import DataFrame

logger = logging.getLogger(__name__)

_HEADS = {"classification": ak.ClassificationHead, "regression": ak.RegressionHead}


class CerebrosEstimator(Estimator, SearchParams, DefaultParamsReadable, DefaultParamsWritable):
    """Spark ML estimator that searches for a DataFrame's best network on its Spark cluster.

    The columns need no ``StringIndexer`` and no ``VectorAssembler``: the search learns the encoding
    of ``featuresCols`` from the training rows, and indexes the classes of ``labelCol`` in ascending
    order. Rows without a label are left out, with a warning.

    Args:
        search: Function that takes the estimator and returns a ``HyperHyperModel``. Use it for
            settings that have no parameter, such as search spaces, graphs and tuner options. The
            function may set a tuner; the estimator sets the resources. If it is given, the
            parameters ``problemType``, ``tuner``, ``objective``, ``maxTrials``, ``projectName`` and
            ``seed`` are ignored, and the estimator cannot be saved; its copies keep the function.
            If None, the search is built from the parameters.
        **params: The parameters by name; see ``explainParams()``.
    """

    def __init__(
        self, *, search: Callable[[CerebrosEstimator], HyperHyperModel] | None = None, **params: Any
    ) -> None:
        super().__init__()
        self._search = search
        self.setParams(**params)

    def setParams(self, **params: Any) -> CerebrosEstimator:
        """Set parameters by name and return the estimator; raise ArgumentError for unknown ones."""
        for name in params:
            if not self.hasParam(name):
                known = ", ".join(param.name for param in self.params)
                raise ArgumentError(f"there is no parameter {name!r}; there are {known}")
        self._set(**params)
        return self

    def write(self) -> Any:
        """Return a writer of the parameters; raise ArgumentError if ``search`` is set."""
        if self._search is not None:
            raise ArgumentError(
                "an estimator with search=... can't be saved, because that is a function; save "
                "its model, or build the estimator in code"
            )
        return super().write()

    def _fit(self, dataset: DataFrame) -> CerebrosModel:
        search = self._search(self) if self._search else self._build_search()
        result = search_in_store(
            self.getStorePath(), lambda store: self._run_search(search, dataset, store)
        )
        model = CerebrosModel.from_result(result, self.getFeaturesCols())
        _warn_of_indices(model)
        return self._copyValues(model)

    def _build_search(self) -> HyperHyperModel:
        problem = self.getProblemType()
        if problem not in _HEADS:
            raise ArgumentError(
                f"problemType must be 'classification' or 'regression', but got {problem!r}"
            )
        return HyperHyperModel(
            inputs=ak.Input(),
            outputs=_HEADS[problem](),
            project_name=self.getProjectName() or f"{self.uid}-{uuid.uuid4().hex[:12]}",
            max_trials=self.getMaxTrials(),
            objective=self.getObjective(),
            tuner=self.getTuner(),
            seed=self.getSeed(),
        )

    def _run_search(
        self, search: HyperHyperModel, dataset: DataFrame, store: Store
    ) -> ModelSelectionResult:
        check_classic(dataset, "the DataFrame")
        search.resource_bind(
            backend=SparkBackend(dataset.sparkSession.sparkContext, self.getNumWorkers()),
            store=store,
            feature_columns=[self.getFeaturesCols()],
            label_columns=[self.getLabelCol()],
            validation=self.get_or_none("validationIndicatorCol")
            or (self.getValidation() if self.isSet("validation") else AUTO),
            # As in Spark ML, "" means no weights.
            sample_weight_column=self.get_or_none("weightCol") or None,
            group_column=self.getGroupCol() or None,
            time_column=self.getTimeCol() or None,
            column_types=self.getColumnTypes(),
        )
        return search.fit(
            dataset,
            batch_size=self.getBatchSize(),
            epochs=self.getEpochs(),
            verbose=0,
            reproducible=self.getReproducible(),
            max_seconds=self.getMaxSeconds(),
        )


def _warn_of_indices(model: CerebrosModel) -> None:
    """Warn if classes are integers other than 0, 1, 2 …, because evaluators need class indices."""
    values = model.get_class_values()
    if values and all(isinstance(each, int) and not isinstance(each, bool) for each in values):
        logger.warning(
            "the classes %s are not 0 … %d, but the prediction is the index of a class; evaluators "
            "need indices as labels, for example of a StringIndexer with stringOrderType="
            "'alphabetAsc'",
            ", ".join(map(str, values[:8])) + (", …" if len(values) > 8 else ""),
            len(values) - 1,
        )
