"""Memory for the networks' state vectors, which compiled calls read in place."""

from __future__ import annotations

from typing import Any

import numpy as np
import tensorflow as tf

from cerebros_spark.training.fused.state_layout import VectorLayout

# Alignment in bytes that TensorFlow and XLA require of a tensor.
_ALIGNMENT = 64


class Buffers:
    """Memory for the state vectors of several networks, for training and inference.

    Args:
        networks: Maximum number of networks.
        layout: Layout of the vectors for training.
        inference_layout: Layout of the vectors for inference.
        dtype: Dtype of the vectors.
    """

    def __init__(
        self, networks: int, layout: VectorLayout, inference_layout: VectorLayout, dtype: str
    ) -> None:
        self.networks = networks
        #: Vectors for training, ``(networks, layout.size)``.
        self.training = _allocate((networks, layout.size), dtype)
        #: Vectors for inference, ``(networks, inference_layout.size)``.
        self.inference = _allocate((networks, inference_layout.size), dtype)


def to_shared_tensor(array: np.ndarray) -> Any:
    """Return a tensor that shares the memory and the shape of an aligned array.

    Do not write to the array before all calls that use the tensor have finished.
    """
    return tf.experimental.dlpack.from_dlpack(array.__dlpack__())


def _allocate(shape: tuple[int, ...], dtype: str) -> np.ndarray:
    """Return an array of zeros, aligned as TensorFlow and XLA require."""
    size = int(np.prod(shape)) * np.dtype(dtype).itemsize
    memory = np.zeros(size + _ALIGNMENT, np.uint8)
    first = -memory.ctypes.data % _ALIGNMENT
    return memory[first : first + size].view(dtype).reshape(shape)
