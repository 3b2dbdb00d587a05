"""Conversion of Spark DataFrame columns to shard columns.

Spark plans and compiles expressions one by one, which takes minutes for thousands of columns. So
numeric features of the same stored type are packed into one array column, called a pack.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from pyspark.ml.functions import vector_to_array
from pyspark.ml.linalg import VectorUDT
from pyspark.mllib.linalg import VectorUDT as OldVectorUDT
from pyspark.sql import DataFrame
from pyspark.sql import functions as F  # noqa: N812
from pyspark.sql import types as T  # noqa: N812

from cerebros_spark.data import checks
from cerebros_spark.data.checks import DataRequest
from cerebros_spark.data.manifest import Column

_SMALL_INTEGERS = (T.BooleanType, T.ByteType, T.ShortType, T.IntegerType)
_INTEGERS = {**dict.fromkeys(_SMALL_INTEGERS, "int32"), T.LongType: "int64"}
_PRECISE = {"int32": "int", "int64": "bigint", "float32": "double"}


@dataclass(frozen=True)
class SourceColumn:
    """Column of the user's DataFrame, with its conversion.

    Attributes:
        column: The column as it is stored.
        alias: Name of the column in internal frames, because users' names may contain anything;
            for a packed number, the name of its pack (an array column of several features).
        index: Index of a packed number in its pack; None if the column is not packed.
        raw: SQL expression for the user's value: a number, or an array of numbers.
        raw_type: SQL type of ``raw``.
        is_array: Whether each row's value is an array.
        has_null_elements: Whether the arrays may have null elements.
        is_float32: Whether the user's numbers are already float32.
    """

    column: Column
    alias: str
    index: int | None
    raw: str
    raw_type: str
    is_array: bool
    has_null_elements: bool
    is_float32: bool

    @property
    def is_label(self) -> bool:
        """Whether the column is a label."""
        return self.column.role == "label"

    @property
    def is_weight(self) -> bool:
        """Whether the column contains the sample weights."""
        return self.column.role == "weight"

    @property
    def is_frame_array(self) -> bool:
        """Whether the column named ``alias`` is an array: an array column or a pack."""
        return self.is_array or self.index is not None

    @property
    def precise(self) -> str:
        """SQL expression for the value before its cast to float32, as used for statistics."""
        sql_type = _PRECISE[self.column.dtype]
        sql_type = f"array<{sql_type}>" if self.is_array else sql_type
        return self.raw if sql_type == self.raw_type else f"cast({self.raw} as {sql_type})"

    @property
    def stored(self) -> str:
        """SQL expression for the stored value in a frame that :func:`select_stored` returns."""
        return self.alias if self.index is None else f"{self.alias}[{self.index}]"

    @property
    def first(self) -> Any:
        """Spark expression for the stored value or, if it is an array, for its first element."""
        value = F.col(self.alias)
        return F.get(value, F.lit(0)) if self.is_array else value


def resolve_columns(schema: T.StructType, request: DataRequest) -> list[SourceColumn]:
    """Return the conversion of each requested column; raise DataError for unsupported types."""
    fields = {field.name: field for field in schema.fields}
    if isinstance(request.validation, str):
        mark = fields[request.validation].dataType
        if not isinstance(mark, T.BooleanType):
            raise checks.validation_type_error(request.validation, mark.simpleString())
    stored = checks.stored_names(request.columns)
    pack_sizes: dict[str, int] = {}
    sources = []
    for number, (name, file_name) in enumerate(zip(request.columns, stored, strict=True)):
        stored_as = "" if file_name == name else file_name
        source = _resolve_column(number, fields[name], request.role(name), stored_as)
        if source.column.role == "feature" and not source.is_array:
            pack = f"numbers_{source.column.dtype}"
            source = dataclasses.replace(source, alias=pack, index=pack_sizes.get(pack, 0))
            pack_sizes[pack] = pack_sizes.get(pack, 0) + 1
        sources.append(source)
    return sources


def _resolve_column(number: int, field: T.StructField, role: str, stored_as: str) -> SourceColumn:
    kind = field.dataType
    is_array, is_vector = isinstance(kind, T.ArrayType), _is_vector(kind)
    element = kind.elementType if is_array else kind
    is_fraction = is_vector or isinstance(element, T.FractionalType)
    dtype = "float32" if is_fraction else _INTEGERS.get(type(element))
    if dtype is None:
        raise checks.column_type_error(field.name, kind.simpleString())
    if role == "weight":
        if is_array or is_vector:
            raise checks.weight_type_error(field.name, kind.simpleString())
        dtype = "float32"
    return SourceColumn(
        Column(field.name, dtype, (), role, stored_as=stored_as),
        f"c{number}",
        None,
        quote(field.name),
        "array<double>" if is_vector else kind.simpleString(),
        is_array or is_vector,
        is_array and kind.containsNull,
        isinstance(element, T.FloatType),
    )


def _is_vector(kind: T.DataType) -> bool:
    return isinstance(kind, VectorUDT | OldVectorUDT)


def quote(name: str) -> str:
    """Quote a column name for SQL."""
    return "`" + name.replace("`", "``") + "`"


def vectors_to_arrays(df: DataFrame, names: Iterable[str]) -> DataFrame:
    """Convert the ML vectors among the columns ``names`` to arrays of doubles."""
    requested = set(names)
    for field in df.schema.fields:
        if field.name in requested and _is_vector(field.dataType):
            value = F.col(quote(field.name))
            # vector_to_array fails on null without naming the column.
            df = df.withColumn(field.name, F.when(value.isNotNull(), vector_to_array(value)))
    return df


def select_precise(
    df: DataFrame,
    sources: Sequence[SourceColumn],
    request: DataRequest,
    raw: Sequence[str] = (),
) -> DataFrame:
    """Select the source columns in full precision, before they are cast to float32.

    Also select the boolean validation flag as ``held_out``. If the request names no validation
    column, ``held_out`` is false in every row. ``raw`` names additional columns, which are selected
    unchanged.
    """
    is_marked = isinstance(request.validation, str)
    mark = quote(str(request.validation)) if is_marked else "false"
    parts: dict[str, list[str]] = {}
    for source in sources:
        parts.setdefault(source.alias, []).append(source.precise)
    packs = {source.alias for source in sources if source.index is not None}
    columns = [
        f"array({', '.join(sql)}) as {alias}" if alias in packs else f"{sql[0]} as {alias}"
        for alias, sql in parts.items()
    ]
    return df.selectExpr(f"{mark} as held_out", *columns, *raw)


def select_stored(
    frame: DataFrame,
    sources: Sequence[SourceColumn],
    request: DataRequest,
    more: Sequence[str] = (),
    raw: Sequence[str] = (),
) -> DataFrame:
    """Cast the columns of :func:`select_precise` to their stored types, and hash each row twice.

    The hashes ``h1`` and ``h2`` have 128 bits in total, so rows with equal hashes are treated as
    equal. ``more`` contains SQL expressions for additional columns, which are not hashed. ``raw``
    names columns that are kept unchanged and hashed.
    """
    cast: dict[str, str] = {}
    for source in sources:
        alias, sql_type = source.alias, "array<float>" if source.is_frame_array else "float"
        is_fraction = source.column.dtype == "float32"
        cast[alias] = f"cast({alias} as {sql_type}) as {alias}" if is_fraction else alias
    # The seed is hashed first, so that each seed gives a different order.
    seed = F.lit(request.seed).cast("decimal(38,0)")
    hashed = ["held_out", *cast, *raw]
    return frame.selectExpr("held_out", *cast.values(), *raw, *more).select(
        "*",
        F.xxhash64(seed, F.lit(1), *hashed).alias("h1"),
        F.xxhash64(seed, F.lit(2), *hashed).alias("h2"),
    )
