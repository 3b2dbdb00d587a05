"""Serialization of model states as safetensors bytes, without pickle.

A model state consists of the values of a model's variables and its optimizer's variables. Variables
of equal dtype are concatenated into one tensor, so that hundreds of small variables take about as
long as a few. The *layout*, a digest of the variables' dtypes and shapes, distinguishes the states
of different networks.
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
    """Reader and writer of a compiled model's state, with the variables of its built optimizer.

    It bypasses Keras' ``assign``, which takes 60 µs per variable, because a Cerebros network has
    hundreds of variables.
    """

    def __init__(self, model: keras.Model) -> None:
        variables = [*model.variables, *model.optimizer.variables]
        self._variables = [variable.value for variable in variables]
        self._like = [np.empty(v.shape, v.dtype.as_numpy_dtype) for v in self._variables]
        self._layout = compute_layout(self._like)

    def read(self) -> bytes:
        """Return the variables' values as a serialized model state."""
        tensors = [
            tf.raw_ops.ReadVariableOp(resource=v.handle, dtype=v.dtype) for v in self._variables
        ]
        return pack(list(map(_view, tensors)), self._layout)

    def write(self, data: bytes) -> None:
        """Assign the values in a serialized model state to the variables.

        Raises:
            StoreError: If ``data`` is not a valid state of this model.
        """
        arrays = unpack(data, self._like, self._layout)
        for variable, array in zip(self._variables, arrays, strict=True):
            tf.raw_ops.AssignVariableOp(resource=variable.handle, value=array)


def write_weights(model: keras.Model, data: bytes) -> None:
    """Assign the weights in a serialized model state to a model, which need not be compiled.

    In the state, the weights are the first variables of each dtype; optimizer variables follow.

    Raises:
        StoreError: If ``data`` is damaged, or contains too few values.
    """
    variables = [variable.value for variable in model.variables]
    dtypes = {str(np.dtype(v.dtype.as_numpy_dtype)): v.dtype.as_numpy_dtype for v in variables}
    try:
        parts = {name: part["data"] for name, part in deserialize(data)}
        flat = {name: np.frombuffer(parts[name], dtype) for name, dtype in dtypes.items()}
        for variable in variables:
            name = str(np.dtype(variable.dtype.as_numpy_dtype))
            size = int(np.prod(variable.shape))
            values, flat[name] = np.split(flat[name], [size])
            array = values.reshape(variable.shape)
            tf.raw_ops.AssignVariableOp(resource=variable.handle, value=array)
    except Exception as error:
        raise StoreError(f"cannot read the weights of a state: it is damaged: {error}") from error


def get_initial_state(model: keras.Model) -> bytes:
    """Serialize a compiled model's current state; build its optimizer first if necessary."""
    build_optimizer(model)
    return StateVariables(model).read()


def pack(arrays: Sequence[np.ndarray], layout: str) -> bytes:
    """Serialize variables as a model state: safetensors bytes with the layout as metadata."""
    flat: dict[str, list[np.ndarray]] = {}
    for array in arrays:
        flat.setdefault(str(array.dtype), []).append(np.ravel(array))
    return pack_flat({dtype: np.concatenate(parts) for dtype, parts in flat.items()}, layout)


def pack_flat(flat: Mapping[str, np.ndarray], layout: str) -> bytes:
    """Serialize a model state, given as one array ``(length,)`` per dtype, by dtype name."""
    return bytes(save(dict(flat), metadata={"layout": layout}))


def unpack(data: bytes, like: Sequence[Any], layout: str) -> list[np.ndarray]:
    """Deserialize a model state's variables as read-only arrays.

    Args:
        data: Bytes of the model state.
        like: Values with the expected shapes and dtypes, in order.
        layout: Layout that the state must have, from :func:`compute_layout`.

    Raises:
        StoreError: If ``data`` is not a valid state, or belongs to a different network.
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
    """Deserialize a model state as one read-only array ``(length,)`` per dtype, by dtype name.

    Args:
        data: Bytes of the model state.
        dtypes: Expected dtypes, from :func:`get_dtypes`.
        layout: Layout that the state must have, from :func:`compute_layout`.

    Raises:
        StoreError: If ``data`` is not a valid state, or belongs to a different network.
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
    """Return the distinct dtypes of variables or arrays, by name."""
    return {str(dtype): dtype for dtype in {np.dtype(value.dtype) for value in like}}


def compute_layout(values: Sequence[Any]) -> str:
    """Return the layout of variables or arrays: a digest of their dtypes and shapes, in order."""
    rows = (f"{i} {np.dtype(v.dtype)} {tuple(v.shape)}" for i, v in enumerate(values))
    return hashlib.sha256("\n".join(rows).encode()).hexdigest()


def _view(tensor: Any) -> np.ndarray:
    """Return a tensor as an array: a view if NumPy itself has the dtype, otherwise a copy."""
    if np.dtype(tensor.dtype.as_numpy_dtype).isbuiltin == 1:
        return np.asarray(memoryview(tensor))
    return np.asarray(tensor.numpy())
