"""Prediction and evaluation of a Spark DataFrame on the executors.

Raw columns are sent as packs: array columns that hold all columns of one storage type.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import itertools
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from cerebros_spark.backends.spark_errors import explain_python_mismatch
from cerebros_spark.backends.spark_job import configure_task
from cerebros_spark.backends.spark_stack import check_classic
from cerebros_spark.core.errors import DataError
from cerebros_spark.core.pickling import unpickle_objects
from cerebros_spark.core.types import MetricVariables
from cerebros_spark.data.manifest import Layout
from cerebros_spark.data.shards import Chunk
from cerebros_spark.data.table.collection import find_data_error
from cerebros_spark.data.table.encode_fields import encode_fields
from cerebros_spark.data.table.encode_matrix import encode_matrix
from cerebros_spark.data.table.labels import index_classes
from cerebros_spark.data.table.schema import TableSchema
from nas.data.columns import build_inputs, build_labels, check_columns, stack_arrow_rows
from nas.metrics.labels import AllowedValues
from nas.results.output_columns import OutputColumns, check_absent
from nas.results.trained_network import TrainedNetwork

if TYPE_CHECKING:
    import pandas as pd
    from pyspark.sql import DataFrame
    from pyspark.sql.types import StructField

    from cerebros_spark.data.table.spark_table import SparkTable

_SCORES = "__cerebros_scores"
_VECTOR = "__cerebros_vector_"

#: Spark's type names.
_FRACTIONS = ("float", "double", "decimal")
_NUMBERS = ("boolean", "byte", "short", "integer", "long", *_FRACTIONS)
_VECTORS = ("vector", "vectorudt")

#: Spark types that Spark can cast inputs to without loss, by NumPy dtype.
_SPARK_TYPES = {"float32": "float", "float64": "double"}

_LISTED_COLUMNS = 8  # in the name of a column that combines several


@dataclass(frozen=True)
class Scorer:
    """Trained network that can be sent to executors to score Spark DataFrames.

    Attributes:
        network: The network.
        batch_size: Rows per step.
        layout: Columns of the network's inputs and outputs.
        input_dtypes: Dtype of each input.
        label_dtypes: Dtype of each output's labels.
        outputs: Columns that scoring adds for each output.
        custom_objects: Pickled dict of custom layers, losses and metrics; empty if there are none.
        label_values: Allowed label values of each output.
        table: Encoding of raw columns; None if the features are not encoded.
        raw: Raw columns of the DataFrame to score; None if ``table`` is None or no DataFrame is
            being scored.
    """

    network: TrainedNetwork
    batch_size: int
    layout: Layout
    input_dtypes: tuple[str, ...]
    label_dtypes: tuple[str, ...]
    outputs: tuple[OutputColumns, ...]
    custom_objects: bytes = b""
    label_values: tuple[AllowedValues, ...] = ()
    table: TableSchema | None = None
    raw: SparkTable | None = None

    def transform(self, df: DataFrame) -> DataFrame:
        """Add prediction columns (values and classes); only feature columns are sent to Python.

        Raises:
            DataError: If a feature column is missing or unusable, or a column to add already
                exists.
        """
        from pyspark.sql.functions import expr, pandas_udf, struct
        from pyspark.sql.types import StructType

        check_absent([name for output in self.outputs for name in output.all_names], df.columns)
        names = df.columns
        vectors: dict[str, str] = {}
        if self.table is None:
            _check_usable(df, [name for group in self.layout.inputs for name in group])
            layout, features = _pack_features(df, self.layout, self.input_dtypes)
            scorer = dataclasses.replace(self, layout=layout)
        else:
            df, raw = describe_raw(df, self.table, self.layout)
            scorer = dataclasses.replace(self, raw=raw)
            df, vectors = _replace_vectors(df, raw)
            features = [expr(sql) for sql in raw.select_packs()]
        schema = StructType([field for output in self.outputs for field in output.fields()])
        broadcast = df.sparkSession.sparkContext.broadcast(scorer)

        def score(batches: Iterator[pd.DataFrame]) -> Iterator[pd.DataFrame]:
            for frame in batches:
                yield broadcast.value.predict(frame)

        # pandas_udf identifies the kind of function by annotations, which must be real types.
        import pandas as pd

        score.__annotations__ = {
            "batches": Iterator[pd.DataFrame],
            "return": Iterator[pd.DataFrame],
        }
        scored = _read_by_rows(df).withColumn(_SCORES, pandas_udf(score, schema)(struct(*features)))
        kept = [_column(vectors.get(name, name)).alias(name) for name in names]
        return scored.select(*kept, *(c for output in self.outputs for c in output.select(_SCORES)))

    def predict(self, frame: pd.DataFrame) -> pd.DataFrame:
        """Predict a batch of rows inside the scoring UDF.

        Args:
            frame: Feature columns, or packs of raw columns, as Spark passes them.

        Returns:
            A DataFrame with the columns of :meth:`OutputColumns.fields` for all outputs.
        """
        import pandas as pd

        if len(frame) == 0:
            return pd.DataFrame({field.name: [] for o in self.outputs for field in o.fields()})
        columns = {name: stack_arrow_rows(frame[name].to_numpy()) for name in frame}
        arrays = _open(self).predict(self.build_inputs(columns, len(frame)))
        fields: dict[str, Any] = {}
        for output, values in zip(self.outputs, arrays, strict=True):
            fields.update(output.to_fields(values.reshape(len(frame), -1).astype("float64")))
        return pd.DataFrame(fields)

    def build_inputs(self, columns: Mapping[str, Any], rows: int) -> list[np.ndarray]:
        """Build network inputs from feature columns, or from packs of raw columns.

        Args:
            columns: Arrays by name, each with one item per row.
            rows: Number of rows.

        Returns:
            An array of shape ``(rows, ...)`` for each input.
        """
        if self.table is None or self.raw is None:
            return build_inputs(columns, self.layout, self.input_dtypes)
        batch = self.raw.batch_from_rows(columns, rows)
        names = [column.name for column in self.raw.columns]
        fields = encode_fields(batch, self.raw.adapt(self.table.select(names).columns))
        return [encode_matrix(self.table.select(group), fields) for group in self.layout.inputs]

    @functools.cached_property
    def digest(self) -> str:
        """SHA-256 digest of the network, its weights and its custom objects."""
        return hashlib.sha256(self.network.digest.encode() + self.custom_objects).hexdigest()

    def metric_variables(self, df: DataFrame) -> list[MetricVariables]:
        """Return the state variables of all metrics for each nonempty partition.

        Raises:
            DataError: If a column is missing or unusable, or labels are invalid.
        """
        if self.table is not None:
            return _measure(*self._select_raw(df))
        needed = list(dict.fromkeys(self.layout.columns))
        _check_usable(df, needed)
        # mapInPandas does not support dots and backticks in names.
        plain = df.select(*(_as_array(df, name).alias(f"c{i}") for i, name in enumerate(needed)))
        return _measure(self, plain, needed)

    def _select_raw(self, df: DataFrame) -> tuple[Scorer, DataFrame, list[str]]:
        """Return a scorer for ``df``, a DataFrame of packs and labels, and its column names."""
        from pyspark.sql.functions import expr

        assert self.table is not None
        labels = list(dict.fromkeys(name for group in self.layout.outputs for name in group))
        known = {classes.name for classes in self.table.labels}
        check_columns(df.columns, labels)
        _check_usable(df, [name for name in labels if name not in known])
        df, raw = describe_raw(df, self.table, self.layout)
        df, _ = _replace_vectors(df, raw)
        packs = [expr(sql) for sql in raw.select_packs()]
        chosen = [_as_array(df, name).alias(f"c{i}") for i, name in enumerate(labels)]
        plain = df.select(*packs, *chosen)
        return dataclasses.replace(self, raw=raw), plain, [*raw.names, *labels]


def describe_raw(df: DataFrame, table: TableSchema, layout: Layout) -> tuple[DataFrame, SparkTable]:
    """Describe the raw features of a DataFrame, in which needed structs are split into fields.

    Returns:
        The DataFrame with the structs split, and the description of its raw features.

    Raises:
        DataError: If a column is missing, or its type is incompatible with that in training.
    """
    from cerebros_spark.data.table.spark_labels import flatten_structs
    from cerebros_spark.data.table.spark_table import SparkTable

    check_classic(df, "the DataFrame")
    names = [name for group in layout.inputs for name in group]
    absent = [name for name in names if name not in df.columns]
    structs = [
        field.name
        for field in df.schema.fields
        if field.dataType.typeName() == "struct"
        and any(name.startswith(f"{field.name}.") for name in absent)
    ]
    df, _ = flatten_structs(df, structs)
    check_columns(df.columns, names)
    _check_unique(df)
    return df, SparkTable.for_schema(df, table.select(names).columns)


def _replace_vectors(df: DataFrame, raw: SparkTable) -> tuple[DataFrame, dict[str, str]]:
    """Convert the ML vector columns that the model reads to array columns.

    The originals are kept under new names, which are returned by column name.
    """
    from cerebros_spark.data.spark_columns import vectors_to_arrays

    names = [
        column.name
        for column, data_type in zip(raw.columns, raw.types, strict=True)
        if data_type in _VECTORS
    ]
    kept = {name: f"{_VECTOR}{number}" for number, name in enumerate(names)}
    for name, hidden in kept.items():
        df = df.withColumn(hidden, _column(name))
    return vectors_to_arrays(df, names), kept


def _read_by_rows(df: DataFrame) -> DataFrame:
    """Make Spark pass a DataFrame to Python row by row if it has ML vectors.

    By default, Spark 4.3 passes Parquet data column by column, and fails on ML vectors.
    """
    setting = "spark.sql.execution.arrow.pythonUDF.columnarInput.enabled"
    has_vectors = any(field.dataType.typeName() in _VECTORS for field in df.schema.fields)
    if not has_vectors or df.sparkSession.conf.get(setting, "true") != "true":
        return df
    # A filter makes rows. Spark cannot remove this one, because it depends on the partition.
    return df.where("spark_partition_id() >= 0")


def _measure(scorer: Scorer, plain: DataFrame, names: list[str]) -> list[MetricVariables]:
    """Return the state variables of all metrics for each nonempty partition of ``plain``.

    ``names`` are the columns' names in the layout, or the names of packs and label columns.
    """
    broadcast = plain.sparkSession.sparkContext.broadcast(scorer)

    def measure(frames: Iterator[pd.DataFrame]) -> Iterator[pd.DataFrame]:
        import pandas as pd

        shard = _FrameShard(broadcast.value, frames, names)
        (variables,) = _open(broadcast.value).evaluate(shard)
        if shard.rows:
            yield pd.DataFrame({"variables": [[np.array(values) for values in variables]]})

    with explain_python_mismatch():
        try:
            rows = plain.mapInPandas(measure, "variables array<array<double>>").collect()
        except Exception as error:
            found = find_data_error(error)
            if found is None:
                raise
            raise found from None
    return [tuple(tuple(values) for values in row["variables"]) for row in rows]


class _FrameShard:
    """Shard whose rows come from an iterator of pandas DataFrames."""

    resident = False

    def __init__(
        self, scorer: Scorer, frames: Iterable[pd.DataFrame], names: Sequence[str]
    ) -> None:
        self._scorer = scorer
        self._frames = frames
        self._names = names
        self.rows = 0

    def chunks(self, batch_size: int, seed: int | None, passes: int = 1) -> Iterator[Chunk]:
        """Yield one chunk per nonempty DataFrame, in order; raise DataError for invalid labels."""
        layout = self._scorer.layout
        for frame in self._frames:
            frame.columns = list(self._names)
            if len(frame) == 0:
                continue
            self.rows += len(frame)
            x = self._build_inputs(frame)
            y = build_labels(self._index_classes(frame), layout, self._scorer.label_dtypes)
            for labels, group, allowed in zip(
                y, layout.outputs, self._scorer.label_values, strict=True
            ):
                allowed.check(labels, group)
            yield Chunk(x, y, np.arange(len(frame), dtype=np.int64))

    def _build_inputs(self, frame: pd.DataFrame) -> list[np.ndarray]:
        raw = self._scorer.raw
        if raw is None:
            return build_inputs(frame, self._scorer.layout, self._scorer.input_dtypes)
        columns = {name: stack_arrow_rows(frame[name].to_numpy()) for name in raw.names}
        return self._scorer.build_inputs(columns, len(frame))

    def _index_classes(self, frame: pd.DataFrame) -> pd.DataFrame:
        table = self._scorer.table
        for classes in () if table is None else table.labels:
            values = pa.Array.from_pandas(frame[classes.name])
            frame[classes.name] = index_classes(values, classes)
        return frame


def has_fractional_type(df: DataFrame, names: Sequence[str]) -> bool:
    """Return whether any of the columns ``names`` has a fractional type.

    These types are float, double and decimal, arrays of these, and Spark ML vectors.
    """
    check_columns(df.columns, names)
    return any(
        _get_element_type(df.schema[name].dataType) in (*_FRACTIONS, *_VECTORS) for name in names
    )


def _get_element_type(data_type: Any) -> str:
    """Return Spark's name for a type; for an array type, its element type's name."""
    return str(getattr(data_type, "elementType", data_type).typeName())


def _check_usable(df: DataFrame, needed: Sequence[str]) -> None:
    """Raise DataError unless the columns ``needed`` are numeric and all column names are unique."""
    check_classic(df, "the DataFrame")
    check_columns(df.columns, needed)
    _check_unique(df)
    types = {field.name: field.dataType for field in df.schema.fields}
    for name in needed:
        if _get_element_type(types[name]) not in (*_NUMBERS, *_VECTORS):
            raise DataError(
                f"the column {name!r} has the type {types[name].simpleString()}, but must hold "
                "numbers as in training"
            )


def _check_unique(df: DataFrame) -> None:
    """Raise DataError unless all column names are unique."""
    case_sensitive = str(df.sparkSession.conf.get("spark.sql.caseSensitive")).lower() == "true"
    names = [name if case_sensitive else name.lower() for name in df.columns]
    counts = Counter(names)
    for name, key in zip(df.columns, names, strict=True):
        if counts[key] > 1:
            raise DataError(f"there are {counts[key]} columns {name!r}; rename them first")


def _pack_features(
    df: DataFrame, layout: Layout, dtypes: Sequence[str]
) -> tuple[Layout, list[Any]]:
    """Pack the features into fewer columns, each an array of several numeric columns.

    Arrow transfers one array column much faster than dozens of numeric columns. Returns the layout
    with the packed columns' names, and the packed columns as Spark expressions.
    """
    groups: list[tuple[str, ...]] = []
    packed: dict[str, Any] = {}
    fields = {field.name: field for field in df.schema.fields}

    def is_number(name: str) -> bool:
        return fields[name].dataType.typeName() in _NUMBERS

    for number, (group, dtype) in enumerate(zip(layout.inputs, dtypes, strict=True)):
        names: list[str] = []
        for are_numbers, run in itertools.groupby(group, is_number):
            columns = tuple(run)
            if not are_numbers or dtype not in _SPARK_TYPES:
                packed.update({name: _as_array(df, name) for name in columns})
                names += columns
                continue
            # Error messages show this name.
            if len(columns) <= _LISTED_COLUMNS:
                alias = ", ".join(columns)
            else:
                alias = f"{columns[0]} … {columns[-1]}"
            if alias in packed or (len(columns) > 1 and alias in df.columns):
                alias = f"{alias} (input {number})"
            packed[alias] = _pack_numbers(fields, columns, _SPARK_TYPES[dtype]).alias(alias)
            names.append(alias)
        groups.append(tuple(names))
    return dataclasses.replace(layout, inputs=tuple(groups)), list(packed.values())


def _pack_numbers(fields: Mapping[str, StructField], names: Sequence[str], data_type: str) -> Any:
    """Return a Spark expression that packs numeric columns into one array.

    The array is null if any number is null, because Arrow would convert that number to NaN. The
    expression is SQL text with a balanced condition, so that it works for thousands of columns.
    """
    from pyspark.sql.functions import expr

    numbers = [f"cast({_quoted(name)} as {data_type})" for name in names]
    present = [f"{_quoted(name)} is not null" for name in names if fields[name].nullable]
    if not present:
        return expr(numbers[0] if len(numbers) == 1 else f"array({', '.join(numbers)})")
    while len(present) > 1:
        present = [
            " and ".join(f"({p})" for p in present[i : i + 2]) for i in range(0, len(present), 2)
        ]
    return expr(f"if({present[0]}, array({', '.join(numbers)}), null)")


def _as_array(df: DataFrame, name: str) -> Any:
    """Return a column as an expression that Arrow supports; an ML vector becomes an array."""
    column = _column(name)
    if df.schema[name].dataType.typeName() not in _VECTORS:
        return column
    from pyspark.ml.functions import vector_to_array
    from pyspark.sql.functions import when

    # On null, vector_to_array fails with an error that does not name the column.
    return when(column.isNotNull(), vector_to_array(column, "float32")).alias(name)


def _column(name: str) -> Any:
    from pyspark.sql.functions import col

    return col(_quoted(name))


def _quoted(name: str) -> str:
    return "`" + name.replace("`", "``") + "`"


# On the executors ------------------------------------------------------------------------


_programs: dict[str, Any] = {}


def _open(scorer: Scorer) -> Any:
    """Return the scorer's open program, cached in this process for later batches and jobs."""
    digest = scorer.digest
    if digest not in _programs:
        configure_task()
        custom_objects = unpickle_objects(scorer.custom_objects)
        program = scorer.network.open(scorer.batch_size, custom_objects)
        _programs.clear()  # one network at a time
        _programs[digest] = program
    return _programs[digest]
