"""Private functions of TensorFlow, as seen in TensorFlow 2.21.0."""

from __future__ import annotations


def clear_kernel_cache() -> None:
    """Free the kernels that TensorFlow keeps of every function that was ever called."""
    from tensorflow.python.eager import context

    context.context().clear_kernel_cache()


def disable_op_determinism() -> None:
    """Undo ``tf.config.experimental.enable_op_determinism()``."""
    from tensorflow.python.framework import config

    config.disable_op_determinism()


def next_uid() -> int:
    """Take and return the next number of TensorFlow's counter of names."""
    from tensorflow.python.framework.ops import uid

    number: int = uid()
    return number
