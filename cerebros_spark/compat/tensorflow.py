"""Private functions of TensorFlow, as seen in TensorFlow 2.21.0."""

from __future__ import annotations


def advance_name_counter(multiple: int) -> None:
    """Advance the number that TensorFlow appends to names to the next multiple of a number.

    Without that counter (``ImportError``) this does nothing.
    """
    try:
        from tensorflow.python.framework.ops import uid
    except ImportError:
        return
    while uid() % multiple:
        pass


def clear_kernel_cache() -> None:
    """Free the kernels that TensorFlow keeps of every function that was ever called."""
    from tensorflow.python.eager import context

    context.context().clear_kernel_cache()


def disable_op_determinism() -> None:
    """Undo ``tf.config.experimental.enable_op_determinism()``."""
    from tensorflow.python.framework import config

    config.disable_op_determinism()
