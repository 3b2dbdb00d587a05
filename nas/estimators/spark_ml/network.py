"""A network with one input and one output, and what it must know of the columns it reads."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import keras

from cerebros_spark.core.errors import ArgumentError
from cerebros_spark.core.pickling import packed
from cerebros_spark.core.types import TrialSpec
from cerebros_spark.data.manifest import Layout
from cerebros_spark.training.keras.checkpoint import StateVariables
from cerebros_spark.training.keras.serialization import serialize_model
from nas.results.output_columns import OutputColumns
from nas.results.result import ModelSelectionResult
from nas.results.scorer import Scorer

_BATCH = 1024


@dataclass
class Network:
    """What a model scores with.

    Attributes:
        model: The network.
        input_shape: Shape of one row of its input.
        input_dtype: Type of the input.
        width: Number of output values.
        classes: As in ``OutputColumns``: ``""`` for a regression, ``"single"`` for classes.
        custom_objects: Layers, losses and metrics that are not Keras' own, by name.
    """

    model: Any
    input_shape: tuple[int, ...]
    input_dtype: str
    width: int
    classes: str
    custom_objects: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def of(cls, result: ModelSelectionResult) -> Network:
        """The best network of a search.

        Raises:
            ArgumentError: If a double can't say what it predicts.
        """
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

    def scorer(self, features: list[str], output: OutputColumns) -> Scorer:
        """The network, ready to be sent to executors."""
        return Scorer(
            spec=TrialSpec("model", 0, "keras", serialize_model(self.model), 0, 1, _BATCH),
            state=StateVariables(self.model).read(),
            layout=Layout((tuple(features),), (), (self.input_shape,)),
            input_dtypes=(self.input_dtype,),
            label_dtypes=(),
            outputs=(output,),
            custom_objects=packed(self.custom_objects),
        )

    def facts(self) -> dict[str, Any]:
        """All but the network, as JSON holds it."""
        return {
            "input_shape": list(self.input_shape),
            "input_dtype": self.input_dtype,
            "width": self.width,
            "classes": self.classes,
        }

    def as_bytes(self) -> bytes:
        """The network as Keras saves it."""
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "network.keras"
            self.model.save(path)
            return path.read_bytes()

    @classmethod
    def read(cls, facts: dict[str, Any], data: bytes) -> Network:
        """What :meth:`facts` and :meth:`as_bytes` gave."""
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "network.keras"
            path.write_bytes(data)
            model = keras.models.load_model(path)
        return cls(model, **{**facts, "input_shape": tuple(facts["input_shape"])})
