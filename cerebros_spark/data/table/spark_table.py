"""Raw tables in Spark: schema learning by aggregates, and batches of rows for the encoding.

Spark plans columns one by one, which takes minutes for thousands. So columns of the same storage,
except vectors, are combined into a pack: one array or one string, without nulls. NaN, the minimum
int64 and the empty string represent missing values.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute
from pyspark.sql import DataFrame

from cerebros_spark.core.errors import DataError
from cerebros_spark.data.checks import DataRequest
from cerebros_spark.data.spark_columns import quote, vectors_to_arrays
from cerebros_spark.data.table.batch import (
    MISSING_INTEGER,
    NO_CATEGORY,
    RawBatch,
    select_storage,
    vector_length_error,
)
from cerebros_spark.data.table.column_use import SurveyedColumn
from cerebros_spark.data.table.encode_fields import to_raw_columns
from cerebros_spark.data.table.schema import (
    LabelClasses,
    NumberColumn,
    TableColumn,
    TableSchema,
)
from cerebros_spark.data.table.source import (
    IGNORE,
    INTEGER,
    NUMBER,
    STRING,
    VECTOR,
    RawColumn,
    describe_spark,
    is_integer_type,
    resolve_kinds,
)
from cerebros_spark.data.table.spark_learning import learn_from_frame, survey_frame
from cerebros_spark.data.table.string_pack import join_sql, split_strings
from cerebros_spark.data.table.survey import TableSurvey

# Names that no column of a user has.
_NUMBERS, _INTEGERS, _STRINGS = "cerebros_numbers", "cerebros_integers", "cerebros_strings"
_VECTOR = "cerebros_vector"

_DURATION = "daytimeinterval"
_FRACTIONAL = ("float", "double", "decimal")
_STRING_BYTES = 16  # of a short string
_MISSING_SQL = "-9223372036854775807L - 1L"  # no literal of Spark has the least integer


@dataclass(frozen=True)
class SparkTable:
    """Raw features in a Spark DataFrame.

    Attributes:
        columns: The features with their kinds.
        types: Spark type name of each feature.
        session_zone: Time zone of the Spark session.
        embeds: Whether networks embed categories; see :func:`.learning.learn_schema`.
    """

    columns: tuple[RawColumn, ...]
    types: tuple[str, ...]
    session_zone: str
    embeds: bool = True

    @classmethod
    def create(
        cls,
        df: DataFrame,
        names: Sequence[str],
        column_types: Mapping[str, str] | None = None,
        *,
        embeds: bool = True,
    ) -> SparkTable:
        """Create a raw table, with the column kinds inferred from the types of a DataFrame.

        The width of a vector is that of its first non-null value. ``column_types`` overrides kinds
        by column name; see :func:`.source.resolve_kinds`.

        Raises:
            ArgumentError: If a column cannot be used, or ``column_types`` is invalid.
            DataError: If the DataFrame has no rows.
        """
        fields = {field.name: field for field in df.schema.fields}
        described = [describe_spark(fields[name]) for name in names]
        # Numbers without fractions may be categories.
        described = [
            replace(each, storage=INTEGER)
            if (column_types or {}).get(each.name) in ("categorical", "boolean", "bool")
            and fields[each.name].dataType.typeName() in _FRACTIONAL
            else each
            for each in described
        ]
        columns = resolve_kinds(described, column_types)
        widths = _read_widths(df, select_storage(columns, VECTOR))
        zone = str(df.sparkSession.conf.get("spark.sql.session.timeZone"))
        types = tuple(fields[name].dataType.typeName() for name in names)
        described_columns = [
            replace(each, width=widths.get(each.name, 1), zone=zone if kind == "timestamp" else "")
            for each, kind in zip(columns, types, strict=True)
        ]
        return cls(tuple(described_columns), types, zone, embeds)

    @classmethod
    def for_schema(cls, df: DataFrame, columns: Sequence[TableColumn]) -> SparkTable:
        """Create a raw table of the DataFrame columns that a schema encodes.

        Raises:
            DataError: If the type of a column is incompatible with that in training.
        """
        fields = {field.name: field for field in df.schema.fields}
        raw = []
        for column, each in zip(columns, to_raw_columns(columns), strict=True):
            field = fields[column.name]
            actual = describe_spark(field)
            if not _is_compatible(actual, each):
                raise DataError(
                    f"the column {column.name!r} has the type {actual.type}, but was "
                    f"{column.type} in training: convert it first"
                )
            # Fractions where training had integers are not cut off.
            is_number = isinstance(column, NumberColumn) and actual.storage in (NUMBER, INTEGER)
            storage = actual.storage if is_number and actual.type != "void" else each.storage
            raw.append(replace(each, storage=storage, zone=getattr(column, "zone", "")))
        session_zone = str(df.sparkSession.conf.get("spark.sql.session.timeZone"))
        types = tuple(fields[column.name].dataType.typeName() for column in columns)
        return cls(tuple(raw), types, session_zone)

    def adapt(self, columns: Sequence[TableColumn]) -> list[TableColumn]:
        """Return the encodings, with each number column's storage changed to that in this table."""
        storages = {column.name: column.storage for column in self.columns}
        return [
            msgspec.structs.replace(column, storage=storages[column.name])
            if isinstance(column, NumberColumn)
            else column
            for column in columns
        ]

    def select_packs(self) -> list[str]:
        """Return SQL expressions, each with an alias, for the packs and the vectors.

        A pack is one column with the values of all columns of the same storage.
        """
        sql: dict[str, list[str]] = {NUMBER: [], INTEGER: [], STRING: []}
        vectors: list[str] = []
        for column, data_type in zip(self.columns, self.types, strict=True):
            name = quote(column.name)
            if column.kind == IGNORE:
                continue
            if column.storage == VECTOR:
                vectors.append(self._vector_sql(name, column.width, len(vectors)))
            elif column.storage == NUMBER:
                number = _duration_sql(name) if data_type == _DURATION else name
                sql[NUMBER].append(f"coalesce(cast({number} as double), double('NaN'))")
            elif column.storage == STRING:
                sql[STRING].append(f"coalesce(cast({name} as string), '')")
            else:
                whole = self._integer_sql(name, data_type, column.zone)
                sql[INTEGER].append(f"coalesce({whole}, {_MISSING_SQL})")
        strings = sql.pop(STRING)
        packs = zip((_NUMBERS, _INTEGERS), sql.values(), strict=True)
        packed = [f"array({', '.join(each)}) as {name}" for name, each in packs if each]
        packed += [f"{join_sql(strings)} as {_STRINGS}"] if strings else []
        return [*packed, *vectors]

    @property
    def names(self) -> list[str]:
        """Names of the columns that :meth:`select_packs` creates."""
        storages = {column.storage for column in self.columns if column.kind != IGNORE}
        names = {NUMBER: _NUMBERS, INTEGER: _INTEGERS, STRING: _STRINGS}
        vectors = [f"{_VECTOR}{i}" for i in range(len(select_storage(self.columns, VECTOR)))]
        return [*(name for storage, name in names.items() if storage in storages), *vectors]

    def _integer_sql(self, name: str, data_type: str, zone: str) -> str:
        if data_type == "date":
            return f"unix_date({name}) * 86400000000L"
        if data_type == "decimal":
            integer = f"try_cast({name} as bigint)"
            is_whole = f"coalesce({integer} = {name}, false)"
            return f"if({name} is null, null, if({is_whole}, {integer}, {NO_CATEGORY}L))"
        if data_type in _FRACTIONAL:
            # Categories in training: a fraction is no category, but not missing either.
            number = f"cast({name} as double)"  # not floor, which overflows
            whole = f"{number} = rint({number}) and abs({number}) < {2.0**63}D"
            integer = f"if({whole}, cast({name} as bigint), {NO_CATEGORY}L)"
            return f"if({name} is null or isnan({number}), null, {integer})"
        if data_type not in ("timestamp", "timestamp_ntz"):
            return f"cast({name} as bigint)"
        if data_type == "timestamp" and zone and zone != self.session_zone:
            name = f"convert_timezone('{zone}', cast({name} as timestamp_ntz))"
        return (
            f"unix_date(cast({name} as date)) * 86400000000L + hour({name}) * 3600000000L + "
            f"minute({name}) * 60000000L + cast(extract(SECOND from {name}) * 1000000 as bigint)"
        )

    def _vector_sql(self, name: str, width: int, number: int) -> str:
        nan = "double('NaN')"
        values = f"transform({name}, each -> coalesce(cast(each as double), {nan}))"
        # An array of another length is passed on, and refused in Python.
        return f"coalesce({values}, array_repeat({nan}, {width})) as {_VECTOR}{number}"

    def make_batch(self, packs: Mapping[str, Any], rows: int) -> RawBatch:
        """Make a batch of ``rows`` rows from packs by name.

        Packs of numbers and vectors are matrices of shape ``(rows, width)``. The pack of strings is
        a list with one Arrow array per column.
        """
        numbers = packs.get(_NUMBERS, np.empty((rows, 0)))
        vectors = [packs[name] for name in self.names if name.startswith(_VECTOR)]
        for column, values in zip(select_storage(self.columns, VECTOR), vectors, strict=True):
            if values.shape[1] != column.width:
                raise vector_length_error(column.name, [column.width, values.shape[1]])
        integers = packs.get(_INTEGERS, np.empty((rows, 0), np.int64))
        missing = integers == MISSING_INTEGER
        strings = packs.get(_STRINGS, ())
        return RawBatch(
            rows,
            np.concatenate([numbers, *vectors], axis=1),
            np.where(missing, 0, integers),
            missing,
            tuple(strings),
        )

    def _make_length_error(self, name: str, lengths: Sequence[int]) -> DataError:
        """Return the error for arrays of unequal length in the vector with the alias ``name``."""
        number = int(name.removeprefix(_VECTOR))
        return vector_length_error(select_storage(self.columns, VECTOR)[number].name, lengths)

    def batch_from_rows(self, columns: Mapping[str, np.ndarray], rows: int) -> RawBatch:
        """Make a batch of ``rows`` rows from packs by name, as taken from pandas.

        Each pack of numbers is a matrix of shape ``(rows, width)`` or an array of one array per
        row.
        """
        packs: dict[str, Any] = {}
        for name in self.names:
            values = columns[name]
            if name == _STRINGS:
                packs[name] = self._split_strings(pa.array(values, pa.binary()))
                continue
            if values.ndim == 1:
                lengths = {len(each) for each in values}
                if len(lengths) > 1:
                    raise self._make_length_error(name, list(lengths))
                values = np.stack(list(values))
            packs[name] = values
        return self.make_batch(packs, rows)

    def batch_from_arrow(self, batch: Any) -> RawBatch:
        """Make a batch from an Arrow batch or table with the columns of :meth:`select_packs`."""
        rows = batch.num_rows
        packs = {}
        for name in self.names:
            column = batch.column(name)
            if isinstance(column, pa.ChunkedArray):
                column = column.combine_chunks()
            if name == _STRINGS:
                packs[name] = self._split_strings(column)
                continue
            flat = column.flatten()
            lengths = np.unique(np.diff(column.offsets.to_numpy()))
            if len(lengths) > 1:
                raise self._make_length_error(name, lengths.tolist())
            packs[name] = flat.to_numpy(zero_copy_only=False).reshape(
                rows, len(flat) // max(rows, 1)
            )
        return self.make_batch(packs, rows)

    def _split_strings(self, joined: pa.Array) -> list[pa.Array]:
        return split_strings(joined, len(select_storage(self.columns, STRING)))

    # Learning ----------------------------------------------------------------------------

    def survey(self, frame: DataFrame) -> tuple[TableSurvey, list[SurveyedColumn]]:
        """Compute counts and ranges of all columns, in one pass over a frame with the packs.

        Raises:
            DataError: If the frame has no rows.
        """
        return survey_frame(self, frame)

    def learn(self, frame: DataFrame, labels: Sequence[LabelClasses]) -> TableSchema:
        """Learn the schema (the encoding of each column) from the training rows.

        A first pass computes counts and ranges. A second pass counts categories, and counts numbers
        in narrow bins, from which quantiles are computed.

        Args:
            frame: All rows, with the packs (columns that combine all columns of one storage) and a
                boolean column ``validates``, which is true in validation rows.
            labels: Classes of the labels, which are part of the schema.

        Raises:
            DataError: If there are infinite values, or no column can be used.
        """
        return learn_from_frame(self, frame, labels)


@dataclass(frozen=True)
class RawFeatures:
    """Raw feature columns of a preparation; there are none if ``table`` is None."""

    table: SparkTable | None

    @property
    def names(self) -> list[str]:
        """Names of the packs and vectors of the features; empty if there is no table."""
        return [] if self.table is None else self.table.names

    @property
    def row_bytes(self) -> int:
        """Approximate memory of one row's features in Spark, in bytes."""
        columns = [] if self.table is None else self.table.columns
        used = [each for each in columns if each.kind != IGNORE]
        return sum(_STRING_BYTES if each.storage == STRING else 8 * each.width for each in used)

    def exclude(self, request: DataRequest) -> DataRequest:
        """Return the request without the features if these are raw columns."""
        return request if self.table is None else replace(request, features=())

    def add_packs(self, df: DataFrame) -> DataFrame:
        """Return the DataFrame with additional columns: the packs and vectors of the features."""
        return df if self.table is None else df.selectExpr("*", *self.table.select_packs())

    def describe(self) -> list[str]:
        """Return strings that identify the features in a fingerprint; empty without a table."""
        return [] if self.table is None else [repr(self.table)]


def _duration_sql(name: str) -> str:
    """Return SQL that converts an interval to seconds, the unit used for Arrow durations."""
    parts = {"day": 86400, "hour": 3600, "minute": 60, "second": 1}
    return " + ".join(f"extract({part} from {name}) * {size}D" for part, size in parts.items())


def _read_widths(df: DataFrame, vectors: Sequence[RawColumn]) -> dict[str, int]:
    """Return each vector's length, read from its first non-null row; 0 if there is none."""
    widths = {}
    df = vectors_to_arrays(df, [column.name for column in vectors])
    for column in vectors:
        name = quote(column.name)
        first = df.where(f"{name} is not null").selectExpr(f"size({name}) as size").head()
        widths[column.name] = int(first["size"]) if first is not None else 0
    return widths


def _is_compatible(actual: RawColumn, trained: RawColumn) -> bool:
    """Return whether Spark can cast a column to its storage in training without loss."""
    if actual.type in (trained.type, "void"):
        return True
    if trained.kind == "datetime" and is_integer_type(trained.type):
        return is_integer_type(actual.type)
    if trained.kind == "datetime" or actual.kind == "datetime":
        return trained.kind == actual.kind
    if trained.kind != "numeric" and actual.type.startswith("interval"):
        return False
    if trained.storage in (NUMBER, INTEGER):
        return actual.storage in (NUMBER, INTEGER)
    return actual.storage == trained.storage
