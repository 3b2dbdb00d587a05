"""Network of a CerebrosModel: one input, one output, and the metadata to predict and save."""

from __future__ import annotations

import functools
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import keras
import msgspec

from cerebros_spark.core.errors import ArgumentError
from cerebros_spark.core.pickling import pickle_objects
from cerebros_spark.data.manifest import Layout
from cerebros_spark.data.table.schema import TableColumn, TableSchema
from nas.results.output_columns import OutputColumns
from nas.results.result import ModelSelectionResult
from nas.results.scorer import Scorer
from nas.results.trained_network import TrainedNetwork

_BATCH = 1024


@dataclass
class Network:
    """Network of a CerebrosModel, with the metadata that prediction needs.

    Attributes:
        model: The ``keras.Model``. If ``table`` is set, it reads the encoded matrix.
        input_shape: Shape of one row of the model's input.
        input_dtype: Dtype of the model's input.
        width: Number of output values.
        classes: ``"single"`` if the output predicts one class per row; ``""`` in a regression.
        class_values: The classes, by index; empty if they are 0, 1, 2 …
        table: Encoding of the raw columns; None if the network reads the columns unencoded.
        label: Name of the label column.
        features: Names of the feature columns in ``fit``; empty if they are unknown.
        custom_objects: Custom layers, losses and metrics by name.
    """

    model: Any
    input_shape: tuple[int, ...]
    input_dtype: str
    width: int
    classes: str
    class_values: tuple[Any, ...] = ()
    table: TableSchema | None = None
    label: str = ""
    features: tuple[str, ...] = ()
    custom_objects: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def from_result(cls, result: ModelSelectionResult, features: Sequence[str] = ()) -> Network:
        """Create a network from a result; raise ArgumentError if Spark ML cannot represent it.

        ``features`` are the names of the feature columns in ``fit``; empty if they are unknown.
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
            result.export_model(raw=False),
            tuple(scorer.layout.input_shapes[0]),
            scorer.input_dtypes[0],
            output.width,
            output.classes,
            output.class_values,
            scorer.table,
            scorer.layout.outputs[0][0],
            tuple(features),
            result.custom_objects,
        )

    @functools.cached_property
    def keras(self) -> Any:
        """The network as a plain ``keras.Model``; with a ``table``, it takes the raw columns."""
        if self.table is None:
            return self.model
        from nas.results.raw_model import build_raw_model

        inputs = tuple(column.name for column in self.table.columns)
        layout = Layout((inputs,), ((self.label,),), (self.input_shape,))
        return build_raw_model(self.model, self.table, layout)

    def build_scorer(self, features: list[str], output: OutputColumns) -> Scorer:
        """Build a scorer, which adds predictions to a DataFrame and can be sent to Spark executors.

        Args:
            features: Names of the feature columns to read, in the order of ``fit``.
            output: Columns that the scorer adds.

        Raises:
            ArgumentError: If the number of feature columns differs from that in ``fit``.
        """
        table = None if self.table is None else self._rename(self.table, features)
        names = features if table is None else [column.name for column in table.columns]
        return Scorer(
            network=TrainedNetwork.from_model(self.model),
            batch_size=_BATCH,
            layout=Layout((tuple(names),), (), (self.input_shape,)),
            table=table,
            input_dtypes=(self.input_dtype,),
            label_dtypes=(),
            outputs=(output,),
            custom_objects=pickle_objects(self.custom_objects),
        )

    def describe(self) -> dict[str, Any]:
        """Return all fields except the Keras model and the custom objects, as JSON values."""
        return {
            "input_shape": list(self.input_shape),
            "input_dtype": self.input_dtype,
            "width": self.width,
            "classes": self.classes,
            "class_values": list(self.class_values),
            "table": None if self.table is None else msgspec.to_builtins(self.table),
            "label": self.label,
            "features": list(self.features),
        }

    def to_bytes(self) -> bytes:
        """Return the bytes of a ``.keras`` file of the network."""
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "network.keras"
            self.model.save(path)
            return path.read_bytes()

    @classmethod
    def from_bytes(cls, description: dict[str, Any], data: bytes) -> Network:
        """Create a network from the results of :meth:`describe` and :meth:`to_bytes`."""
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "network.keras"
            path.write_bytes(data)
            model = keras.models.load_model(path)
        table = description.get("table")
        return cls(
            model,
            tuple(description["input_shape"]),
            description["input_dtype"],
            description["width"],
            description["classes"],
            tuple(description.get("class_values", ())),
            None if table is None else msgspec.convert(table, TableSchema),
            description.get("label", ""),
            tuple(description.get("features", ())),
        )

    def _rename(self, table: TableSchema, features: Sequence[str]) -> TableSchema:
        """Rename a table's columns to ``features``, which have the same order as in ``fit``."""
        if not self.features or tuple(features) == self.features:
            return table
        if len(features) != len(self.features):
            raise ArgumentError(
                f"the model has {len(self.features)} feature columns, {', '.join(self.features)}, "
                f"but got {len(features)}: {', '.join(features)}"
            )
        names = dict(zip(self.features, features, strict=True))
        columns = tuple(_rename_column(column, names) for column in table.columns)
        return msgspec.structs.replace(table, columns=columns)


def _rename_column(column: TableColumn, names: dict[str, str]) -> TableColumn:
    """Rename a column, or the prefix of a struct field if its struct is renamed."""
    if column.name in names:
        return msgspec.structs.replace(column, name=names[column.name])
    for name, new in names.items():
        if column.name.startswith(f"{name}."):
            return msgspec.structs.replace(column, name=new + column.name.removeprefix(name))
    return column
