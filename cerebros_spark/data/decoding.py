"""Row groups as Petastorm's reader has them become arrays, an array column at once.

Petastorm itself makes an object of every row of an array column, which costs more than all else in
reading. Prepared data has arrays of one length only, whose values lie side by side already.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa


class ArraysOfTables:
    """Stands in for a Petastorm reader's own last step, which turns tables into named tuples."""

    batched_output = True

    def read_next(self, pool: Any, schema: Any, ngram: Any) -> dict[str, np.ndarray]:
        """The next row group, decoded: arrays by the columns' names.

        Args:
            pool: Petastorm's workers, which give the row group as a table.
            schema: Not used; the table has its own.
            ngram: Not used.

        Raises:
            ValueError: If an array column has arrays of several lengths, or none for a row.
        """
        return arrays_of(pool.get_results())


def arrays_of(table: pa.Table) -> dict[str, np.ndarray]:
    """The columns of a table: ``(rows,)`` for numbers, ``(rows, length)`` for arrays of them.

    Raises:
        ValueError: If an array column has arrays of several lengths, or none for a row.
    """
    return {name: _values(name, table.column(name)) for name in table.column_names}


def _values(name: str, column: pa.ChunkedArray) -> np.ndarray:
    if not pa.types.is_list(column.type):
        return column.to_numpy()
    rows = column.combine_chunks()
    lengths = np.unique(np.diff(rows.offsets.to_numpy()))
    if rows.null_count or len(lengths) > 1:
        raise ValueError(
            f"the column {name!r} must have arrays of one length in all rows, but has "
            f"{rows.null_count} rows without one and lengths {lengths.tolist()}"
        )
    return rows.flatten().to_numpy(zero_copy_only=False).reshape(len(rows), -1)
