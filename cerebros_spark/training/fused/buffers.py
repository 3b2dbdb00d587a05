"""Memory for the vectors of a compiled call, which the call reads in place."""

from __future__ import annotations

from typing import Any

import numpy as np
import tensorflow as tf

from cerebros_spark.training.fused.state_layout import VectorLayout

# Alignment that TensorFlow and XLA need for a tensor, in bytes.
_ALIGNMENT = 64


class Buffers:
    """Vectors of the networks of one call, with and without optimizer slots."""

    def __init__(
        self, networks: int, layout: VectorLayout, inference_layout: VectorLayout, dtype: str
    ) -> None:
        self.networks = networks
        #: ``(networks, size)``
        self.training = _allocate((networks, layout.size), dtype)
        #: ``(networks, inference size)``
        self.inference = _allocate((networks, inference_layout.size), dtype)


def to_shared_tensor(array: np.ndarray) -> Any:
    """Return an aligned array as a tensor that shares its memory.

    Write to the array only after the calls with the tensor have finished.
    """
    return tf.experimental.dlpack.from_dlpack(array.__dlpack__())


def _allocate(shape: tuple[int, ...], dtype: str) -> np.ndarray:
    size = int(np.prod(shape)) * np.dtype(dtype).itemsize
    memory = np.zeros(size + _ALIGNMENT, np.uint8)
    first = -memory.ctypes.data % _ALIGNMENT
    return memory[first : first + size].view(dtype).reshape(shape)
