from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

from cerebros_spark.data.reading import to_arrays


def table(arrays) -> pa.Table:
    return pa.table({"x": pa.array(arrays, pa.list_(pa.float32())), "n": range(len(arrays))})


def test_array_columns_become_matrices():
    rows = np.arange(24, dtype="float32").reshape(8, 3)
    arrays = to_arrays(table(rows.tolist()))
    np.testing.assert_array_equal(arrays["x"], rows)
    assert arrays["x"].dtype == np.float32
    np.testing.assert_array_equal(arrays["n"], np.arange(8))


def test_parts_of_tables_and_tables_in_chunks_give_their_own_rows():
    rows = np.arange(24, dtype="float32").reshape(8, 3)
    whole = table(rows.tolist())
    arrays = to_arrays(whole.slice(2, 4))
    np.testing.assert_array_equal(arrays["x"], rows[2:6])
    np.testing.assert_array_equal(arrays["n"], [2, 3, 4, 5])
    chunks = pa.concat_tables([whole.slice(5), whole.slice(1, 2)])
    np.testing.assert_array_equal(to_arrays(chunks)["x"], rows[[5, 6, 7, 1, 2]])
    np.testing.assert_array_equal(to_arrays(chunks)["n"], [5, 6, 7, 1, 2])


@pytest.mark.parametrize("arrays", [[[1, 2], [3]], [[1, 2], None], [[1], [2, 3], [4, 5, 6]]])
def test_arrays_of_several_lengths_are_refused_by_name(arrays):
    with pytest.raises(ValueError, match="column 'x' must have arrays of one length"):
        to_arrays(table(arrays))
