"""Raw tables (with columns of any type) in memory: schema learning and encoding."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pandas.util import hash_array

from cerebros_spark.core.errors import DataError
from cerebros_spark.data.table.batch import RawBatch, batch_from_arrow
from cerebros_spark.data.table.column_use import (
    SurveyedColumn,
    check_values,
    describe_survey,
    find_reason,
)
from cerebros_spark.data.table.encode_fields import encode_fields, to_raw_columns
from cerebros_spark.data.table.learning import learn_schema, plan_counts
from cerebros_spark.data.table.schema import LabelClasses, TableColumn, TableSchema
from cerebros_spark.data.table.source import VECTOR, RawColumn, describe_arrow, resolve_kinds
from cerebros_spark.data.table.survey import TableSurvey, survey_batches

_BATCH_ROWS = 2**16


@dataclass(frozen=True)
class ArrowTable:
    """Raw features in memory.

    Attributes:
        table: The raw values.
        columns: The columns of the table with their kinds.
        embeds: Whether networks embed categories; see :func:`.learning.learn_schema`.
    """

    table: pa.Table
    columns: tuple[RawColumn, ...]
    embeds: bool = True

    @classmethod
    def create(
        cls,
        table: pa.Table,
        column_types: Mapping[str, str] | None = None,
        *,
        embeds: bool = True,
    ) -> ArrowTable:
        """Create a raw table, with column kinds inferred from the types.

        ``column_types`` overrides kinds by column name; see :func:`.source.resolve_kinds`.

        Raises:
            ArgumentError: If a column cannot be used, or ``column_types`` is invalid.
        """
        described = [
            describe_arrow(name, table.schema.field(name).type) for name in table.schema.names
        ]
        columns = [
            replace(each, width=_find_width(table.column(each.name)))
            if each.storage == VECTOR
            else each
            for each in resolve_kinds(described, column_types)
        ]
        return cls(table, tuple(columns), embeds)

    @property
    def rows(self) -> int:
        """Number of rows."""
        return int(self.table.num_rows)

    def batches(
        self, columns: Sequence[RawColumn], rows: np.ndarray | None = None
    ) -> Iterator[RawBatch]:
        """Yield the values of ``columns`` in batches.

        If ``rows`` is None, all rows are read; otherwise only those with the indices ``rows``.
        """
        table = self.table.select([column.name for column in columns])
        table = table if rows is None else table.take(pa.array(rows))
        for start in range(0, table.num_rows, _BATCH_ROWS):
            yield batch_from_arrow(table.slice(start, _BATCH_ROWS), columns)

    def survey(
        self, rows: np.ndarray | None = None
    ) -> tuple[TableSurvey, list[SurveyedColumn]] | None:
        """Return counts and ranges of the values of each column; None if there are no rows.

        If ``rows`` is None, all rows are read; otherwise only those with the indices ``rows``.
        """
        survey = survey_batches(self.batches(self.columns, rows))
        return None if survey is None else (survey, describe_survey(survey, self.columns))

    def learn(self, rows: np.ndarray, labels: Sequence[LabelClasses] = ()) -> TableSchema:
        """Learn the schema (the encoding of each column) from the training rows.

        Args:
            rows: Indices of the training rows. All other rows are only checked.
            labels: Classes of the labels, which are part of the schema.

        Raises:
            DataError: If there are infinite values, or no column can be used.
        """
        trained, others = self.survey(rows), self.survey(self._find_others(rows))
        if trained is None:
            raise DataError("there are no training rows")
        survey, surveyed = trained
        check_values(surveyed, *([] if others is None else [others[1]]))
        used = [each for each in surveyed if find_reason(each) is None]
        plan = plan_counts(survey, used)
        counts = plan.count(self.batches(self.columns, rows))
        return learn_schema(surveyed, plan, counts, labels, embeds=self.embeds)

    def _find_others(self, rows: np.ndarray) -> np.ndarray:
        """Return the indices of all rows that are not in ``rows``."""
        others = np.ones(self.rows, bool)
        others[rows] = False
        return np.flatnonzero(others)

    def encode(self, columns: Sequence[TableColumn]) -> dict[str, np.ndarray]:
        """Encode all rows as fields, the columns of shards; see :mod:`.encode_fields`."""
        raw = to_raw_columns(columns)
        parts = [encode_fields(batch, columns) for batch in self.batches(raw)]
        return {
            column.name: np.concatenate([part[column.name] for part in parts]) for column in columns
        }

    def hash_rows(self) -> np.ndarray:
        """Return a hash of each row as uint64; equal rows have equal hashes."""
        parts = [_hash_batch(batch) for batch in self.batches(self.columns)]
        return np.concatenate([*parts, np.empty(0, np.uint64)])

    def digest(self) -> str:
        """Return a hexadecimal hash of the values, the columns and ``embeds``."""
        content = hashlib.blake2b(repr(self.embeds).encode(), digest_size=16)
        for column in self.columns:
            content.update(repr(column).encode())
        for batch in self.batches(self.columns):
            for values in (batch.numbers, batch.integers, batch.missing):
                content.update(np.ascontiguousarray(values).data)
            for strings in batch.strings:
                content.update(strings.is_null().to_numpy(zero_copy_only=False).data)
                content.update(pc.binary_length(strings).fill_null(0).to_numpy().data)
                content.update("".join(strings.drop_null().to_pylist()).encode())
        return content.hexdigest()


def _hash_batch(batch: RawBatch) -> np.ndarray:
    integers = np.where(batch.missing, -1, batch.integers)
    numbers = np.where(np.isnan(batch.numbers), np.nan, batch.numbers)  # one form of NaN
    columns = [
        *(hash_array(column) for column in numbers.T),
        *(hash_array(column) for column in integers.T),
        *(hash_array(column) for column in batch.missing.T),
        *(hash_array(s.fill_null("").to_numpy(zero_copy_only=False)) for s in batch.strings),
    ]
    return combine_hashes(columns, batch.rows)


def combine_hashes(columns: Sequence[np.ndarray], rows: int) -> np.ndarray:
    """Combine each column's uint64 hashes of shape ``(rows,)`` into one hash per row."""
    combined = np.full(rows, 0x345678, np.uint64)
    for hashes in columns:
        combined = (combined ^ hashes) * np.uint64(0x9E3779B97F4A7C15)
    return combined


def _find_width(column: pa.ChunkedArray) -> int:
    lengths = pc.list_value_length(column.drop_null()) if column.null_count < len(column) else []
    return int(lengths[0].as_py()) if len(lengths) else 0
