"""Access to private functions of TensorFlow, verified with version 2.21.0."""

from __future__ import annotations


def advance_name_counter(multiple: int) -> None:
    """Advance the counter that TensorFlow appends to names to the next multiple of ``multiple``.

    This does nothing if TensorFlow has no such counter.
    """
    try:
        from tensorflow.python.framework.ops import uid
    except ImportError:
        return
    while uid() % multiple:
        pass


def clear_kernel_cache() -> None:
    """Free the kernels that TensorFlow caches for every function it has called."""
    from tensorflow.python.eager import context

    context.context().clear_kernel_cache()


def disable_op_determinism() -> None:
    """Undo ``tf.config.experimental.enable_op_determinism()``."""
    from tensorflow.python.framework import config

    config.disable_op_determinism()
