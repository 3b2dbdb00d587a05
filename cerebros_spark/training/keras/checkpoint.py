"""Model state as bytes and back: safetensors, no pickle.

Variables of one type are laid end to end in one tensor, so that a state of hundreds of small
variables costs about as much as one of a few.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from safetensors import deserialize
from safetensors.numpy import save

from cerebros_spark.core.errors import StoreError


def pack(arrays: Sequence[np.ndarray], described: str) -> bytes:
    """Writes arrays as one safetensors file.

    Args:
        arrays: The variables' values.
        described: Their :func:`layout`, which :func:`unpack` checks.
    """
    flat: dict[str, list[np.ndarray]] = {}
    for array in arrays:
        flat.setdefault(str(array.dtype), []).append(np.ravel(array))
    return packed({dtype: np.concatenate(parts) for dtype, parts in flat.items()}, described)


def packed(flat: Mapping[str, np.ndarray], described: str) -> bytes:
    """Writes variables that lie end to end already, by their types."""
    return bytes(save(dict(flat), metadata={"layout": described}))


def unpack(data: bytes, like: Sequence[Any], described: str) -> list[np.ndarray]:
    """Reads what :func:`pack` wrote.

    Args:
        data: The bytes.
        like: One value with ``shape`` and ``dtype`` for each variable, in the order of packing.
        described: Their :func:`layout`.

    Raises:
        StoreError: If the bytes are no state, or one of another network.
    """
    tensors = flats(data, types(like), described)
    offsets = dict.fromkeys(tensors, 0)
    arrays = []
    for value in like:
        dtype = str(np.dtype(value.dtype))
        size = int(np.prod(value.shape))
        start = offsets[dtype]
        arrays.append(tensors[dtype][start : start + size].reshape(value.shape))
        offsets[dtype] = start + size
    return arrays


def types(like: Sequence[Any]) -> dict[str, np.dtype]:
    """The types of variables, by name."""
    return {str(dtype): dtype for dtype in {np.dtype(value.dtype) for value in like}}


def flats(data: bytes, types: Mapping[str, np.dtype], described: str) -> dict[str, np.ndarray]:
    """Reads what :func:`pack` wrote: all variables of a type end to end, by type.

    The arrays can't be written to.

    Args:
        data: The bytes.
        types: The variables' :func:`types`.
        described: Their :func:`layout`.

    Raises:
        StoreError: As :func:`unpack`.
    """
    try:
        header = int.from_bytes(data[:8], "little")
        if f'"{described}"'.encode() not in data[8 : 8 + header]:
            raise StoreError(
                "the state belongs to another network: shapes or types of its variables differ"
            )
        # safetensors' own reader has no bfloat16; tensors are called by their NumPy types.
        return {name: np.frombuffer(told["data"], types[name]) for name, told in deserialize(data)}
    except StoreError:
        raise
    except Exception as error:
        raise StoreError(f"the state can't be read, it is damaged: {error}") from error


def layout(values: Sequence[Any]) -> str:
    """A digest of the variables' types and shapes, in their order."""
    text = "\n".join(
        f"{number} {np.dtype(value.dtype)} {tuple(value.shape)}"
        for number, value in enumerate(values)
    )
    return hashlib.sha256(text.encode()).hexdigest()
