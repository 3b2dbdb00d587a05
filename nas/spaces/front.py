"""First layers of a network for raw tables: embeddings of category codes."""

from __future__ import annotations

from typing import Any

import keras

from cerebros_spark.data.table.schema import MISSING_CODE, OTHER_CODE, MatrixLayout

EMBEDDING_SIZE = 8
"""Length of the vector that replaces a category code (arXiv 2407.04491, appendix A.1)."""


def get_width(layout: MatrixLayout) -> int:
    """Return the number of values per row that :func:`embed_codes` outputs for a layout."""
    return layout.numbers + layout.flags + EMBEDDING_SIZE * len(layout.codes)


def embed_codes(matrix: Any, layout: MatrixLayout, prefix: str) -> Any:
    """Replace the category codes in a table's matrix with trained embeddings.

    Args:
        matrix: Keras tensor of shape ``(rows, layout.width)``.
        layout: Layout of the matrix columns: numbers, flags and category codes.
        prefix: Prefix of the layer names.

    Returns:
        A Keras tensor of shape ``(rows, get_width(layout))``.
    """
    if not layout.codes:
        return matrix
    start = layout.numbers + layout.flags
    parts = [matrix[:, :start]] if start else []
    for index, column in enumerate(layout.codes):
        embedding = keras.layers.Embedding(
            column.codes,
            EMBEDDING_SIZE,
            embeddings_initializer=keras.initializers.RandomNormal(stddev=1.0),
            name=f"{prefix}_embedding{index}",
        )
        codes = matrix[:, start + index]
        vectors = embedding(codes)
        # A code without training rows would keep its initial vector, so zeros replace it.
        for code, is_trained in ((MISSING_CODE, column.missing), (OTHER_CODE, column.other)):
            if not is_trained:
                known = keras.ops.cast(keras.ops.not_equal(codes, code), vectors.dtype)
                vectors = vectors * keras.ops.expand_dims(known, -1)
        parts.append(vectors)
    if len(parts) == 1:
        return parts[0]
    return keras.layers.Concatenate(name=f"{prefix}_front")(parts)
