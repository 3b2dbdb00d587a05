"""The activation ``mish`` from one exponential, with its gradient by hand.

TensorFlow differentiates ``x * tanh(softplus(x))`` operation by operation, which takes twice as
long.
"""

from __future__ import annotations

from typing import Any

import keras
import tensorflow as tf

from cerebros_spark.compat.keras import flatten_layers

# Above it, mish(x) is x, and the square of the exponential is still a float32.
_MOST = 20.0


def differentiate_mish(model: Any) -> None:
    """Let Keras' own layers with the activation ``mish`` use the gradient by hand.

    Call this before the model is traced.
    """
    for layer in flatten_layers(model):
        is_builtin = type(layer).__module__.startswith("keras.")
        if is_builtin and getattr(layer, "activation", None) is keras.activations.mish:
            layer.activation = _mish


def _mish(x: Any) -> Any:
    values = tf.convert_to_tensor(x)
    # The square of the exponential may be beyond the range of half precision.
    is_precise = values.dtype in (tf.float32, tf.float64)
    return _compute_mish(values) if is_precise else keras.activations.mish(values)


@tf.custom_gradient
def _compute_mish(x: Any) -> Any:
    exponential = tf.exp(tf.minimum(x, _MOST))
    # tanh(log(1 + e)) is n / (n + 2) with n = e² + 2e.
    n = exponential * (exponential + 2)
    tanh = n / (n + 2)

    def compute_gradient(upstream: Any) -> Any:
        sigmoid = exponential / (exponential + 1)
        return upstream * (tanh + x * (1 - tanh * tanh) * sigmoid)

    return x * tanh, compute_gradient
