from __future__ import annotations

import numpy as np

from cerebros_spark.data.table.encode_matrix import restore_numbers
from cerebros_spark.data.table.schema import MatrixLayout


def test_restored_numbers_are_those_before_the_clip() -> None:
    scaled = np.linspace(-11, 11, 45, dtype=np.float32)
    matrix = np.stack([scaled / np.sqrt(1 + (scaled / 3) ** 2), np.ones(45)], axis=1)
    restored = restore_numbers(matrix, MatrixLayout(numbers=1, flags=1))
    np.testing.assert_allclose(restored[:, 0], scaled, rtol=1e-4)
    np.testing.assert_array_equal(restored[:, 1], 1)


def test_far_numbers_stay_finite() -> None:
    restored = restore_numbers(np.array([[3.0], [-3.0]]), MatrixLayout(numbers=1, flags=0))
    np.testing.assert_allclose(restored[:, 0], [11.97, -11.97], atol=0.05)
