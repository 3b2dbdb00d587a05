"""Memory where the vectors of a call are laid, which the call reads in place."""

from __future__ import annotations

from typing import Any

import numpy as np
import tensorflow as tf

from cerebros_spark.training.fused.state_layout import Sections

# What TensorFlow and XLA want a tensor to begin at a multiple of, in bytes.
_ALIGNED = 64


class Room:
    """Memory for the networks of one call.

    Args:
        networks: How many they are.
        sections: How a vector is laid out in training.
        bare: How it is where networks are only evaluated: without what an optimizer keeps.
        dtype: Type of its values.
    """

    def __init__(self, networks: int, sections: Sections, bare: Sections, dtype: str) -> None:
        self.networks = networks
        #: A vector for each network as it is trained, ``(networks, size)``.
        self.whole = _aligned((networks, sections.size), dtype)
        #: The same for evaluating, ``(networks, smaller size)``.
        self.bare = _aligned((networks, bare.size), dtype)


def shared(array: np.ndarray) -> Any:
    """An aligned array as a tensor, its values where they are.

    Whoever writes to the array afterwards changes the tensor: what was called with it must have
    come to its end.
    """
    return tf.experimental.dlpack.from_dlpack(array.__dlpack__())


def _aligned(shape: tuple[int, ...], dtype: str) -> np.ndarray:
    size = int(np.prod(shape)) * np.dtype(dtype).itemsize
    memory = np.zeros(size + _ALIGNED, np.uint8)
    first = -memory.ctypes.data % _ALIGNED
    return memory[first : first + size].view(dtype).reshape(shape)
