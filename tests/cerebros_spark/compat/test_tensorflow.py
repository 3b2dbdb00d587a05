"""The private functions of TensorFlow that are used exist in the installed version."""

from __future__ import annotations

import tensorflow as tf

from cerebros_spark.compat import tensorflow as compat

VERSION = f"TensorFlow {tf.__version__}"


def test_kernel_cache():
    compat.clear_kernel_cache()
    assert int(tf.constant(1) + 1) == 2, VERSION


def test_determinism():
    from tensorflow.python.framework import config

    before = config.is_op_determinism_enabled()
    tf.config.experimental.enable_op_determinism()
    compat.disable_op_determinism()
    assert not config.is_op_determinism_enabled(), VERSION
    if before:
        tf.config.experimental.enable_op_determinism()


def test_name_counter():
    from tensorflow.python.framework.ops import uid

    compat.advance_name_counter(1000)
    assert uid() % 1000 == 1, VERSION
