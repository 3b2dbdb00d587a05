"""Raw tables in memory."""

from __future__ import annotations

import pyarrow as pa

from cerebros_spark.data.table.arrow_table import ArrowTable


def test_the_digest_depends_on_values_and_types():
    columns = {"x": [1, 2, 3], "s": ["a", "b", None]}
    digest = ArrowTable.create(pa.table(columns)).digest()
    assert ArrowTable.create(pa.table(columns)).digest() == digest
    for other in (
        {"x": [1, 2, 4]},
        {"s": ["a", "b", "c"]},
        {"s": ["ab", "", None]},
        {"x": [1.0, 2, 3]},
    ):
        assert ArrowTable.create(pa.table({**columns, **other})).digest() != digest
    assert ArrowTable.create(pa.table(columns), {"x": "categorical"}).digest() != digest
