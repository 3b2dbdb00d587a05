"""Raw tables in memory, learned and encoded."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from cerebros_spark.data.table.arrow_table import ArrowTable
from cerebros_spark.data.table.encode_matrix import encode_matrix


def learn(columns: dict, column_types=None, rows=None):
    table = ArrowTable.create(pa.table(columns), column_types)
    count = table.rows
    schema = table.learn(np.arange(count) if rows is None else np.asarray(rows))
    return schema, table.encode(schema.columns)


def encode_one(values, **types):
    schema, fields = learn({"x": values}, types or None)
    (column,) = schema.columns
    return column, fields["x"], encode_matrix(schema, fields)
