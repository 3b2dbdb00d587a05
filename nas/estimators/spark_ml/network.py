"""Network with one input and one output, which can be scored and saved."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import keras

from cerebros_spark.core.errors import ArgumentError
from cerebros_spark.core.pickling import pickle_objects
from cerebros_spark.data.manifest import Layout
from nas.results.output_columns import OutputColumns
from nas.results.result import ModelSelectionResult
from nas.results.scorer import Scorer
from nas.results.trained_network import TrainedNetwork

_BATCH = 1024


@dataclass
class Network:
    """Network of a CerebrosModel."""

    model: Any
    input_shape: tuple[int, ...]  # of one row
    input_dtype: str
    width: int  # number of output values
    classes: str  # as in OutputColumns: "" for a regression, "single" for classes
    custom_objects: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def from_result(cls, result: ModelSelectionResult) -> Network:
        """Create a network from a result; raise ArgumentError if Spark ML cannot represent it."""
        scorer = result.scorer()
        if len(scorer.outputs) != 1 or len(scorer.layout.inputs) != 1:
            raise ArgumentError(
                f"a CerebrosModel has one input and one output, but the network has "
                f"{len(scorer.layout.inputs)} and {len(scorer.outputs)}; use HyperHyperModel"
            )
        (output,) = scorer.outputs
        if output.classes == "multiple" or (not output.classes and output.width > 1):
            raise ArgumentError(
                f"a prediction of Spark ML is one number, but the network predicts {output.width}; "
                "use HyperHyperModel"
            )
        return cls(
            result.best_model,
            tuple(scorer.layout.input_shapes[0]),
            scorer.input_dtypes[0],
            output.width,
            output.classes,
            result.custom_objects,
        )

    def build_scorer(self, features: list[str], output: OutputColumns) -> Scorer:
        """Build a scorer of the network, which can be sent to executors."""
        return Scorer(
            network=TrainedNetwork.from_model(self.model),
            batch_size=_BATCH,
            layout=Layout((tuple(features),), (), (self.input_shape,)),
            input_dtypes=(self.input_dtype,),
            label_dtypes=(),
            outputs=(output,),
            custom_objects=pickle_objects(self.custom_objects),
        )

    def describe(self) -> dict[str, Any]:
        """Describe everything but the Keras model and custom objects, as JSON values."""
        return {
            "input_shape": list(self.input_shape),
            "input_dtype": self.input_dtype,
            "width": self.width,
            "classes": self.classes,
        }

    def to_bytes(self) -> bytes:
        """Return the network as the bytes of a .keras file."""
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "network.keras"
            self.model.save(path)
            return path.read_bytes()

    @classmethod
    def from_bytes(cls, description: dict[str, Any], data: bytes) -> Network:
        """Create a network from the values of :meth:`describe` and :meth:`to_bytes`."""
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "network.keras"
            path.write_bytes(data)
            model = keras.models.load_model(path)
        return cls(model, **{**description, "input_shape": tuple(description["input_shape"])})
