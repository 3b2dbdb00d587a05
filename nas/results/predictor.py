"""Prediction and evaluation with a trained network for data in the driver's memory."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
from keras import Model

from cerebros_spark.core.errors import ArgumentError, DataError
from cerebros_spark.data.manifest import Layout
from cerebros_spark.data.table.labels import index_classes
from cerebros_spark.data.table.schema import TableSchema
from nas.data.columns import build_inputs, build_labels, predict_rows
from nas.data.frames import to_arrow_column, to_frame
from nas.data.heads import Target
from nas.data.inputs import select_columns
from nas.data.new_rows import encode_rows, to_labels
from nas.data.values import has_fractions
from nas.data.weights import read_evaluation_weights
from nas.results.output_columns import OutputColumns, check_absent
from nas.results.prediction import predict_untraced
from nas.results.trained_network import TrainedNetwork


class Predictor:
    """Trained network that predicts and evaluates arrays, pandas DataFrames and Arrow tables.

    Args:
        network: The network.
        layout: Columns of the network's inputs and outputs.
        input_dtypes: Dtype of each input in the training data.
        targets: The network's outputs and their labels.
        table: Encoding of the raw table that the network was trained on; None if it was trained on
            arrays.
        custom_objects: Custom layers, losses and metrics by name.
    """

    def __init__(
        self,
        network: TrainedNetwork,
        layout: Layout,
        input_dtypes: Sequence[str],
        targets: Sequence[Target],
        table: TableSchema | None,
        custom_objects: Mapping[str, Any],
    ) -> None:
        self.network = network
        self._layout = layout
        self._stored_dtypes = tuple(input_dtypes)
        self._targets = tuple(targets)
        self._table = table
        self._custom_objects = custom_objects

    @functools.cached_property
    def model(self) -> Model:
        """The network as a Keras model that can be compiled without this package."""
        return self.network.to_model(self._custom_objects)

    @functools.cached_property
    def scoring_model(self) -> Model:
        """The network, compiled with all metrics of the search.

        It is separate from :attr:`model`, which users may evaluate on one-dimensional labels. Keras
        cannot evaluate a model on one-dimensional labels and then on two-dimensional ones.
        """
        return self.network.to_model(self._custom_objects, exported=False)

    @property
    def input_dtypes(self) -> tuple[str, ...]:
        """Dtype of each network input, which may be wider than the dtype of the training data."""
        if all(dtype == "float32" for dtype in self._stored_dtypes):
            return self._stored_dtypes
        return tuple(str(tensor.dtype) for tensor in self.model.inputs)

    def predict(
        self, x: Any, batch_size: int = 32, verbose: int = 0
    ) -> np.ndarray | list[np.ndarray]:
        """Predict the outputs for in-memory data; see ``HyperHyperModel.predict``."""
        inputs = self.build_inputs(x)
        if self._table is None or verbose:
            outputs: np.ndarray | list[np.ndarray] = predict_rows(
                self.model, inputs, batch_size=batch_size, verbose=verbose
            )
            return outputs
        # The networks of tables are small: tracing them takes longer than most predictions.
        given = inputs if isinstance(inputs, list) else [inputs]
        arrays = predict_untraced(self.model, given)
        named = zip(arrays, self.model.outputs, strict=True)
        arrays = [values.astype(str(tensor.dtype)) for values, tensor in named]
        return arrays[0] if len(arrays) == 1 else arrays

    def evaluate(
        self, x: Any, y: Any, batch_size: int = 32, verbose: int = 0, sample_weight: Any = None
    ) -> dict[str, float]:
        """Return the loss and metrics by name; see ``HyperHyperModel.evaluate``."""
        if isinstance(x, pa.Table):
            x = to_frame(x)
        if isinstance(y, str):  # the name of the label's column, as in fit
            y = None
        if y is None and not isinstance(x, Mapping | pd.DataFrame):
            raise ArgumentError("y is missing; pass the labels, or a DataFrame that holds them")
        inputs = self.build_inputs(x)
        rows = len(inputs[0] if isinstance(inputs, list) else inputs)
        if rows == 0:
            raise DataError("there are no rows to evaluate")
        values = self.scoring_model.evaluate(
            inputs,
            self.build_labels(x if y is None else y),
            batch_size=batch_size,
            verbose=verbose,
            sample_weight=read_evaluation_weights(sample_weight, rows),
            return_dict=True,
        )
        # Keras sorts the dict by name; restore the order of compile().
        return {name: values[name] for name in self.scoring_model.get_metrics_result()}

    def add_outputs(
        self, table: pd.DataFrame | pa.Table, columns: Sequence[OutputColumns]
    ) -> pd.DataFrame | pa.Table:
        """Return a table with the columns of each output added.

        Args:
            table: A pandas DataFrame or Arrow table with the feature columns.
            columns: Columns to add, for each output of the network.

        Raises:
            DataError: If a feature column is missing, or a column to add already exists.
        """
        existing = table.column_names if isinstance(table, pa.Table) else list(table.columns)
        check_absent([name for each in columns for name in each.all_names], existing)
        inputs = self.build_inputs(table)
        outputs = predict_untraced(self.model, inputs if isinstance(inputs, list) else [inputs])
        added: dict[str, pa.Array] = {}
        for each, values in zip(columns, outputs, strict=True):
            added.update(each.to_arrow(values.reshape(len(values), each.width)))
        if isinstance(table, pa.Table):
            for name, values in added.items():
                table = table.append_column(name, values)
            return table
        return table.assign(**{name: each.to_pandas().to_numpy() for name, each in added.items()})

    def build_inputs(self, x: Any) -> np.ndarray | list[np.ndarray]:
        """Convert arrays, a dict or a table to network inputs of shape ``(rows, ...)``.

        Returns:
            The input, or a list if the network has several inputs.
        """
        if self._table is not None:
            inputs = encode_rows(x, self._table, self._layout.inputs)
        else:
            rows = to_frame(x) if isinstance(x, pa.Table) else x
            columns = select_columns(rows, self._layout.inputs, "x")
            inputs = build_inputs(columns, self._layout, self.input_dtypes)
        return inputs[0] if len(inputs) == 1 else inputs

    def build_labels(self, y: Any) -> np.ndarray | list[np.ndarray]:
        """Convert labels to network targets of shape ``(rows, ...)``.

        Args:
            y: Labels, or a pandas DataFrame that contains the label columns.

        Raises:
            DataError: If a label column is missing, or labels have a wrong shape or value.
        """
        columns = select_columns(self._index_classes(y), self._layout.outputs, "y")
        dtypes = [
            target.dtype_for(fractions=any(has_fractions(columns[name]) for name in group))
            for group, target in zip(self._layout.outputs, self._targets, strict=True)
        ]
        labels = build_labels(columns, self._layout, dtypes)
        for array, group, target in zip(labels, self._layout.outputs, self._targets, strict=True):
            if array.shape[1:] != target.label_shape:
                raise DataError(
                    f"the labels of {target.name!r} must have {target.label_shape[0]} values per "
                    f"row, but got {array.shape[1]}"
                )
            target.values.check(array, group)
        return labels[0] if len(labels) == 1 else labels

    def _index_classes(self, y: Any) -> Any:
        """Replace the classes in a raw table's labels by class indices."""
        if self._table is None or not self._table.labels:
            return y
        names = [name for group in self._layout.outputs for name in group]
        labels = to_labels(y, names)
        for classes in self._table.labels:
            values = to_arrow_column(labels[classes.name], classes.name)
            labels[classes.name] = index_classes(values, classes)
        return labels
