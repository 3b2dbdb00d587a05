"""Optimizer updates of large weights in one pass over memory.

A Keras optimizer updates each weight with a dozen operations, each of which reads or writes the
whole weight. For millions of values, this takes longer than computing the gradient. TensorFlow has
the same update rules as single operations.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any

import keras
import tensorflow as tf
from keras import optimizers

from cerebros_spark.compat import keras as compat
from cerebros_spark.training.keras.optimizer_support import flatten_optimizer

#: Number of values above which a weight is large.
LARGE = 2**14
# Maximum relative difference between an Adam moment of the operation and that of Keras.
_TOLERANCE = 2e-5

_Update = Callable[[Any, Any, Any], None]


def update_large_in_one_pass(optimizer: Any) -> None:
    """Make Adam, AdamW and SGD update each large weight by a single operation.

    Other optimizers, and those with ``amsgrad``, do not change. The arithmetic is that of Keras
    except for ``1 - beta``, the weight of a new gradient in Adam's moments (moving averages of the
    gradients and of their squares), which is rounded differently. With a ``beta_2`` of 0.999
    in float32, it is smaller by 1/77,000 of its value, for which the learning rate and epsilon
    compensate. If the relative difference would exceed 1/50,000, as with a ``beta_2`` of 0.9995,
    Keras' operations are kept.
    """
    for part in flatten_optimizer(optimizer):
        kind = type(part)
        if kind in (optimizers.Adam, optimizers.AdamW) and not part.amsgrad:
            part.update_step = functools.partial(_update, _adam, part, part.update_step)
        elif kind is optimizers.SGD:
            part.update_step = functools.partial(_update, _sgd, part, part.update_step)


def _update(
    rule: Callable[..., None],
    part: Any,
    fallback: _Update,
    gradient: Any,
    variable: Any,
    rate: Any,
) -> None:
    """Update a variable by ``rule`` if it is large, otherwise by Keras' ``update_step``."""
    plain = variable.value if isinstance(variable, keras.Variable) else variable
    large = math.prod(plain.shape) > LARGE and plain.dtype in (tf.float32, tf.float64)
    if not large or not isinstance(gradient, tf.Tensor) or not _is_close(part, plain.dtype):
        fallback(gradient, variable, rate)
        return
    index = compat.variable_index(part, variable)
    rule(part, index, plain.handle, tf.cast(gradient, plain.dtype), tf.cast(rate, plain.dtype))


def _adam(part: Any, index: int, weight: Any, gradient: Any, rate: Any) -> None:
    beta_1, beta_2, epsilon, step = (
        tf.cast(each, gradient.dtype)
        for each in (part.beta_1, part.beta_2, part.epsilon, part.iterations + 1)
    )
    first, second = (
        _compute_moment_ratio(beta, tf.cast(part.iterations + 1, tf.float64), gradient.dtype)
        for beta in (part.beta_1, part.beta_2)
    )
    root = tf.sqrt(second)
    momentum, velocity = compat.adam_moments(part, index)
    tf.raw_ops.ResourceApplyAdam(
        var=weight,
        m=momentum.value.handle,
        v=velocity.value.handle,
        beta1_power=tf.pow(beta_1, step),
        beta2_power=tf.pow(beta_2, step),
        lr=rate * root / first,
        beta1=beta_1,
        beta2=beta_2,
        epsilon=epsilon * root,
        grad=gradient,
    )


def _compute_moment_ratio(beta: float, step: Any, dtype: tf.DType) -> Any:
    """Return the ratio of TensorFlow's to Keras' Adam moment after ``step`` equal gradients."""
    ours, theirs = (
        1 - tf.pow(tf.constant(1 - each, tf.float64), step)
        for each in _get_gradient_weights(beta, dtype)
    )
    return tf.cast(ours / theirs, dtype)


def _is_close(part: Any, dtype: tf.DType) -> bool:
    """Return whether TensorFlow's Adam moments are close enough to those of Keras."""
    betas = (getattr(part, name, 0.0) for name in ("beta_1", "beta_2"))
    weights = (_get_gradient_weights(beta, dtype) for beta in betas)
    return all(abs(ours / theirs - 1) < _TOLERANCE for ours, theirs in weights)


def _get_gradient_weights(beta: float, dtype: tf.DType) -> tuple[float, float]:
    """Return a new gradient's weight in a moment of Adam: in TensorFlow, then in Keras."""
    kind = dtype.as_numpy_dtype
    return float(kind(1) - kind(beta)), float(kind(1 - beta))


def _sgd(part: Any, index: int, weight: Any, gradient: Any, rate: Any) -> None:
    if not part.momentum:
        tf.raw_ops.ResourceApplyGradientDescent(var=weight, alpha=rate, delta=gradient)
        return
    tf.raw_ops.ResourceApplyKerasMomentum(
        var=weight,
        accum=part.momentums[index].value.handle,
        lr=rate,
        grad=gradient,
        momentum=tf.cast(part.momentum, gradient.dtype),
        use_nesterov=part.nesterov,
    )
