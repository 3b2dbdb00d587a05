"""CerebrosModel: the network that a search found, as a Spark ML model, and its persistence."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from pyspark.ml import Model
from pyspark.ml.functions import array_to_vector
from pyspark.ml.util import (
    DefaultParamsReader,
    DefaultParamsWriter,
    MLReadable,
    MLReader,
    MLWritable,
    MLWriter,
)
from pyspark.sql.functions import array, col, element_at, lit, when

from cerebros_spark.compat.pyspark import hadoop_path, read_stream, reset_uid
from cerebros_spark.core.errors import ArgumentError
from cerebros_spark.data.spark_columns import quote
from nas.estimators.spark_ml.network import Network
from nas.estimators.spark_ml.params import ScoringParams
from nas.results.output_columns import OutputColumns
from nas.results.result import ModelSelectionResult

if TYPE_CHECKING:
    from pyspark.sql import DataFrame

_OUTPUT = "__cerebros__output"
_FILE = "network.keras"


class CerebrosModel(Model, ScoringParams, MLWritable, MLReadable):
    """Model fitted by a CerebrosEstimator, which adds predictions to a DataFrame.

    ``predictionCol`` holds doubles: class indices (for one-hot labels, the index of the largest
    probability), or the predicted numbers of a regression. ``probabilityCol`` holds vectors with
    one probability per class, which
    ``BinaryClassificationEvaluator(rawPredictionCol="probability")`` accepts. If the classes are
    not 0, 1, 2 …, ``predictedLabelCol`` holds the original class values, in their own type, similar
    to the output of ``IndexToString``.

    The model predicts from the raw columns of ``fit``, which may contain nulls, and strings that
    did not occur in ``fit``.

    Attributes:
        network: The network and the metadata needed to predict; None if the model was neither
            fitted nor loaded.
        result: The ``ModelSelectionResult`` of ``fit``; None if the model was loaded.
    """

    def __init__(self, network: Network | None = None) -> None:
        super().__init__()
        self.network = network
        self.result: ModelSelectionResult | None = None

    @classmethod
    def from_result(
        cls, result: ModelSelectionResult, features: Sequence[str] = ()
    ) -> CerebrosModel:
        """Create a model from the ensemble of a search, or from its best network if there is none.

        Args:
            result: The result of the search.
            features: Names of the feature columns in ``fit``. If empty, a model of raw columns
                always reads columns with the names used in the search.
        """
        model = cls(Network.from_result(result, features))
        model.result = result
        return model

    def keras(self) -> Any:
        """Return the network as a plain ``keras.Model``.

        If the search used a raw table, the model takes the raw columns by name; see
        :meth:`nas.ModelSelectionResult.export_model`.
        """
        return self._get_network().keras

    def get_class_values(self) -> list[Any]:
        """Return the classes by index; empty if each equals its index, or in a regression."""
        return list(self._get_network().class_values)

    def write(self) -> Any:
        """Return a writer that saves the parameters and network to any file system of Spark."""
        return _Writer(self, self._get_network())

    @classmethod
    def read(cls) -> Any:
        """Return a reader whose ``load`` returns a saved model."""
        return _Reader(cls)

    def _get_network(self) -> Network:
        if self.network is None:
            raise ArgumentError("a CerebrosModel comes from CerebrosEstimator.fit or from load")
        return self.network

    def _transform(self, dataset: DataFrame) -> DataFrame:
        network = self._get_network()
        names = [
            self.getPredictionCol(),
            self.getProbabilityCol() if network.classes else "",
            self.getPredictedLabelCol() if network.class_values else "",
        ]
        for name in names:
            if name and name in dataset.columns:
                raise ArgumentError(
                    f"the DataFrame has a column {name!r} already; choose another predictionCol, "
                    "probabilityCol or predictedLabelCol"
                )
        columns = OutputColumns((_OUTPUT,), network.width, network.classes)
        scored = network.build_scorer(self.getFeaturesCols(), columns).transform(dataset)
        output = col(_OUTPUT)
        prediction = col(columns.class_names[0]) if network.classes else output
        probabilities = array(1 - output, output) if network.width == 1 else output
        # NaN outputs are null, which a vector cannot contain.
        probability = when(prediction.isNotNull(), array_to_vector(probabilities))
        values = array(*(lit(value) for value in network.class_values or ("",)))
        label = element_at(values, prediction.cast("int") + 1)
        added = zip([prediction.cast("double"), probability, label], names, strict=True)
        kept = [col(quote(name)) for name in dataset.columns]
        return scored.select(*kept, *(column.alias(name) for column, name in added if name))


class _Writer(MLWriter):
    """Writer of a CerebrosModel: Spark ML's metadata, and the network as a ``.keras`` file."""

    def __init__(self, instance: CerebrosModel, network: Network) -> None:
        super().__init__()
        self.instance = instance
        self._network = network

    def saveImpl(self, path: str) -> None:
        """Save the network and then the metadata, so that only a complete model has metadata."""
        system, file = hadoop_path(self.sc, path, _FILE)
        stream = system.create(file, False)
        try:
            stream.write(bytearray(self._network.to_bytes()))
        finally:
            stream.close()
        extra = {"network": self._network.describe()}
        DefaultParamsWriter.saveMetadata(self.instance, path, self.sc, extraMetadata=extra)


class _Reader(MLReader):
    """Reader of a saved CerebrosModel."""

    def __init__(self, cls: type[CerebrosModel]) -> None:
        super().__init__()
        self._cls = cls

    def load(self, path: str) -> CerebrosModel:
        """Load the model saved at ``path``."""
        name = f"{self._cls.__module__}.{self._cls.__name__}"
        metadata = DefaultParamsReader.loadMetadata(path, self.sc, name)
        system, file = hadoop_path(self.sc, path, _FILE)
        stream = system.open(file)
        try:
            data = read_stream(self.sc, stream)
        finally:
            stream.close()
        model = self._cls(Network.from_bytes(metadata["network"], data))
        reset_uid(model, metadata["uid"])
        DefaultParamsReader.getAndSetParams(model, metadata)
        return model
