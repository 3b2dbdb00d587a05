"""Collection of the rows of a Spark DataFrame on the driver, as Arrow tables."""

from __future__ import annotations

import io
import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pyspark.sql import DataFrame

from cerebros_spark.core.errors import DataError
from cerebros_spark.data.spark_columns import quote
from cerebros_spark.data.table.arrow_table import ArrowTable
from cerebros_spark.data.table.source import UNSUPPORTED, VECTOR, describe_spark

logger = logging.getLogger(__name__)

#: Maximum size in bytes of a table that is collected.
MAX_BYTES = 2**26
_LEAST_BYTES = 4  # of a value


def collect_small(df: DataFrame, names: Sequence[str], rows: int) -> pa.Table | None:
    """Collect columns of a DataFrame as an Arrow table if it is small.

    Args:
        df: The DataFrame, which is evaluated twice if it is small, and in part if it is not.
        names: Names of the columns.
        rows: Maximum number of rows.

    Returns:
        The table. None if it has no rows, or more than ``rows`` rows or :data:`MAX_BYTES` bytes; if
        a column is missing, has an unsupported type or has ML vectors; if column names differ only
        in case; if Arrow does not know the session's time zone; or if collecting fails.
    """
    fields = {field.name: field for field in df.schema.fields}
    if rows <= 0 or not all(name in fields for name in names):
        return None
    if len({name.lower() for name in df.columns}) < len(df.columns):
        return None
    zone = str(df.sparkSession.conf.get("spark.sql.session.timeZone"))
    has_times = any(fields[name].dataType.typeName() == "timestamp" for name in names)
    if has_times and not _is_zone_of_arrow(zone):
        return None
    described = [describe_spark(fields[name]) for name in names]
    # Vectors of Spark ML, unlike arrays, are no lists of Arrow.
    has_vectors = any(
        column.storage == VECTOR and fields[column.name].dataType.typeName() != "array"
        for column in described
    )
    if has_vectors or any(column.kind == UNSUPPORTED for column in described):
        return None
    # Functions of Arrow batches take no names with backticks.
    aliases = [f"{quote(name)} as c{number}" for number, name in enumerate(names)]
    try:
        # Spark takes rows from few Spark partitions first, so that a large DataFrame is not read.
        count = len(df.selectExpr("1 as one").take(rows + 1))
        if count > rows or count * len(names) * _LEAST_BYTES > MAX_BYTES:
            return None
        table = collect_table(df.selectExpr(*aliases), MAX_BYTES)
    except Exception as error:
        # The rows may be too large for the driver. Any other error will occur again.
        logger.info("the DataFrame is left to the executors: %s", str(error).split("\n", 1)[0])
        return None
    if table is None or not 0 < table.num_rows <= rows or table.nbytes > MAX_BYTES:
        return None
    return _show_in_zone(table.rename_columns(list(names)), zone)


def _is_zone_of_arrow(zone: str) -> bool:
    """Return whether Arrow knows a time zone; Spark also knows names such as ``GMT+8``."""
    try:
        pc.local_timestamp(pa.array([0], pa.timestamp("us", zone)))
    except pa.ArrowInvalid:
        return False
    return True


def _show_in_zone(table: pa.Table, zone: str) -> pa.Table:
    """Convert time-zone-aware timestamps to the session's time zone, as Spark shows them."""
    fields = [
        field.with_type(pa.timestamp("us", zone))
        if pa.types.is_timestamp(field.type) and field.type.tz is not None
        else field
        for field in table.schema
    ]
    return table.cast(pa.schema(fields))


def sort_rows(table: pa.Table) -> pa.Table:
    """Sort rows by a hash of their values, because the rows of a DataFrame have no order."""
    order = np.argsort(ArrowTable.create(table).hash_rows(), kind="stable")
    return table.take(pa.array(order))


def collect_rows(frame: DataFrame, function: Callable[..., Any], schema: str) -> list[Any]:
    """Apply ``function`` to a frame's Arrow batches and collect the rows it yields.

    The rows have the Spark schema ``schema``. A DataError that ``function`` raises in a Spark task
    is raised again on the driver.
    """
    try:
        return list(frame.mapInArrow(function, schema).collect())
    except Exception as error:
        raise find_data_error(error) or error from error


def find_data_error(error: Exception) -> DataError | None:
    """Return the DataError that a Spark task raised; None if it raised a different error."""
    mark = f"{DataError.__module__}.{DataError.__name__}: "
    for line in str(error).splitlines():
        if line.startswith(mark):
            return DataError(line[len(mark) :])
    return None


def collect_table(frame: DataFrame, most_bytes: int | None = None) -> pa.Table | None:
    """Collect a DataFrame as an Arrow table.

    Args:
        frame: The DataFrame.
        most_bytes: Maximum size of the table in bytes; ignored since Spark 4.0. If None, there is
            no limit.

    Returns:
        The table. Before Spark 4.0, None if there are no rows or more than ``most_bytes`` bytes.
    """
    if hasattr(frame, "toArrow"):  # since Spark 4.0; it needs no Python workers
        return frame.toArrow()
    tables = collect_tables(frame, most_bytes)
    return pa.concat_tables(tables) if tables else None


def collect_tables(frame: DataFrame, most_bytes: int | None = None) -> list[pa.Table] | None:
    """Collect a DataFrame as Arrow tables, one for each Spark partition with rows.

    Returns:
        The tables; empty if there are no rows. None if they have more than ``most_bytes`` bytes; if
        ``most_bytes`` is None, there is no limit.
    """

    def pack(batches: Iterable[Any]) -> Iterator[Any]:
        received: list[Any] = []
        total = 0
        for batch in batches:
            received.append(batch)
            total += batch.nbytes
            if most_bytes is not None and total > most_bytes:
                yield pa.RecordBatch.from_pydict({"table": [b""]})
                return
        if received:
            sink = io.BytesIO()
            with pa.ipc.new_stream(sink, received[0].schema) as writer:
                for batch in received:
                    writer.write_batch(batch)
            yield pa.RecordBatch.from_pydict({"table": [sink.getvalue()]})

    packed = [row["table"] for row in collect_rows(frame, pack, "table binary")]
    if not all(packed) or (most_bytes is not None and sum(map(len, packed)) > most_bytes):
        return None
    return [pa.ipc.open_stream(each).read_all() for each in packed]
