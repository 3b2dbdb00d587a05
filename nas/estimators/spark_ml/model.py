"""CerebrosModel: the best network as a Model of Spark ML."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pyspark.ml import Model
from pyspark.ml.functions import array_to_vector
from pyspark.ml.util import MLReadable, MLWritable
from pyspark.sql.functions import array, col, when

from cerebros_spark.core.errors import ArgumentError
from nas.estimators.spark_ml.network import Network
from nas.estimators.spark_ml.params import ScoringParams
from nas.estimators.spark_ml.persistence import ModelReader, ModelWriter
from nas.results.output_columns import OutputColumns
from nas.results.result import ModelSelectionResult

if TYPE_CHECKING:
    from pyspark.sql import DataFrame

_OUTPUT = "__cerebros__output"


class CerebrosModel(Model, ScoringParams, MLWritable, MLReadable):
    """What a CerebrosEstimator found: adds predictions to a DataFrame.

    ``predictionCol`` is a double: the class number, for one-hot labels the position of the largest
    probability, or the number of a regression. ``probabilityCol`` is a vector with a probability
    for each class; ``BinaryClassificationEvaluator(rawPredictionCol="probability")`` takes it.

    Attributes:
        network: The network and what it must know of the columns.
        result: The ``ModelSelectionResult`` of ``fit``; None of a model that was loaded.
    """

    def __init__(self, network: Network | None = None) -> None:
        super().__init__()
        self.network = network
        self.result: ModelSelectionResult | None = None

    @classmethod
    def _of(cls, result: ModelSelectionResult) -> CerebrosModel:
        made = cls(Network.of(result))
        made.result = result
        return made

    def keras(self) -> Any:
        """The network, a plain ``keras.Model``."""
        return self._network().model

    def write(self) -> ModelWriter:
        """Writes parameters and network, into a folder of any file system that Spark knows."""
        return ModelWriter(self, self._network())

    @classmethod
    def read(cls) -> Any:
        """Reads what :meth:`write` wrote."""
        return ModelReader(cls)

    def _network(self) -> Network:
        if self.network is None:
            raise ArgumentError("a CerebrosModel comes from CerebrosEstimator.fit or from load")
        return self.network

    def _transform(self, dataset: DataFrame) -> DataFrame:
        network = self._network()
        names = [self.getPredictionCol(), self.getProbabilityCol() if network.classes else ""]
        for name in names:
            if name and name in dataset.columns:
                raise ArgumentError(
                    f"the DataFrame has a column {name!r} already; choose another predictionCol or "
                    "probabilityCol"
                )
        output = OutputColumns((_OUTPUT,), network.width, network.classes)
        scorer = network.scorer(self.getFeaturesCols(), output)
        scored = scorer.transform(dataset)
        told = col(_OUTPUT)
        prediction = col(output.class_names[0]) if network.classes else told
        both = array(1 - told, told) if network.width == 1 else told
        # Where the network gave NaN there are nulls, which a vector can't hold.
        probability = when(prediction.isNotNull(), array_to_vector(both))
        added = [prediction.cast("double"), probability]
        kept = [col(f"`{name.replace('`', '``')}`") for name in dataset.columns]
        new = [c.alias(name) for c, name in zip(added, names, strict=True) if name]
        return scored.select(*kept, *new)
