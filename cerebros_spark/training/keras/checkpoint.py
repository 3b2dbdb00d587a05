"""Model state as safetensors bytes and back, without pickle.

Variables of one dtype are concatenated to one tensor, so that a state of hundreds of small
variables costs about as much as one of a few. A digest of their dtypes and shapes, the *layout*,
tells states of different networks apart.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from safetensors import deserialize
from safetensors.numpy import save

from cerebros_spark.core.errors import StoreError
from cerebros_spark.training.keras.optimizer_support import build_optimizer


class StateVariables:
    """The variables of a model and its optimizer, read and written quickly.

    Keras' ``assign`` takes 60 µs per variable, and a Cerebros network has hundreds.
    """

    def __init__(self, model: keras.Model) -> None:
        variables = [*model.variables, *model.optimizer.variables]
        self._variables = [variable.value for variable in variables]
        self._like = [np.empty(v.shape, v.dtype.as_numpy_dtype) for v in self._variables]
        self._layout = compute_layout(self._like)

    def read(self) -> bytes:
        """Return the state as bytes."""
        tensors = [
            tf.raw_ops.ReadVariableOp(resource=v.handle, dtype=v.dtype) for v in self._variables
        ]
        return pack(list(map(_view, tensors)), self._layout)

    def write(self, data: bytes) -> None:
        """Set the variables from the bytes of a state.

        Raises:
            StoreError: If the bytes are no state of this model.
        """
        arrays = unpack(data, self._like, self._layout)
        for variable, array in zip(self._variables, arrays, strict=True):
            tf.raw_ops.AssignVariableOp(resource=variable.handle, value=array)


def get_initial_state(model: keras.Model) -> bytes:
    """Return the current state of a compiled model, after its optimizer was built."""
    build_optimizer(model)
    return StateVariables(model).read()


def pack(arrays: Sequence[np.ndarray], layout: str) -> bytes:
    """Return variables as one safetensors file."""
    flat: dict[str, list[np.ndarray]] = {}
    for array in arrays:
        flat.setdefault(str(array.dtype), []).append(np.ravel(array))
    return pack_flat({dtype: np.concatenate(parts) for dtype, parts in flat.items()}, layout)


def pack_flat(flat: Mapping[str, np.ndarray], layout: str) -> bytes:
    """Return variables that are concatenated by dtype already as one safetensors file."""
    return bytes(save(dict(flat), metadata={"layout": layout}))


def unpack(data: bytes, like: Sequence[Any], layout: str) -> list[np.ndarray]:
    """Return packed variables, given values with their shapes and dtypes.

    Raises:
        StoreError: If the bytes are no state, or one of another network.
    """
    tensors = unpack_flat(data, get_dtypes(like), layout)
    offsets = dict.fromkeys(tensors, 0)
    arrays = []
    for value in like:
        dtype = str(np.dtype(value.dtype))
        start, size = offsets[dtype], int(np.prod(value.shape))
        arrays.append(tensors[dtype][start : start + size].reshape(value.shape))
        offsets[dtype] = start + size
    return arrays


def unpack_flat(data: bytes, dtypes: Mapping[str, np.dtype], layout: str) -> dict[str, np.ndarray]:
    """Return packed variables, concatenated by dtype, as read-only arrays.

    Raises:
        StoreError: If the bytes are no state, or one of another network.
    """
    try:
        header = int.from_bytes(data[:8], "little")
        if f'"{layout}"'.encode() not in data[8 : 8 + header]:
            raise StoreError(
                "the state belongs to another network: shapes or dtypes of its variables differ"
            )
        # safetensors' own reader has no bfloat16; tensors are named by their NumPy dtypes.
        return {name: np.frombuffer(part["data"], dtypes[name]) for name, part in deserialize(data)}
    except StoreError:
        raise
    except Exception as error:
        raise StoreError(f"cannot read the state: it is damaged: {error}") from error


def get_dtypes(like: Sequence[Any]) -> dict[str, np.dtype]:
    """Return the dtypes of variables by name."""
    return {str(dtype): dtype for dtype in {np.dtype(value.dtype) for value in like}}


def compute_layout(values: Sequence[Any]) -> str:
    """Return a digest of the variables' dtypes and shapes, in their order."""
    rows = (f"{i} {np.dtype(v.dtype)} {tuple(v.shape)}" for i, v in enumerate(values))
    return hashlib.sha256("\n".join(rows).encode()).hexdigest()


def _view(tensor: Any) -> np.ndarray:
    """Return a tensor's values in place where NumPy has the dtype, else a copy."""
    if np.dtype(tensor.dtype.as_numpy_dtype).isbuiltin == 1:
        return np.asarray(memoryview(tensor))
    return np.asarray(tensor.numpy())
