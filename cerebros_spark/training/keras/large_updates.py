"""Has an optimizer update each large weight in one pass over memory.

Keras' rules are a dozen operations, and each one reads and writes the whole weight: for one of
millions of values that takes longer than the gradient. TensorFlow has the same rules as single
operations.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any

import keras
import tensorflow as tf
from keras import optimizers

from cerebros_spark.training.keras.optimizer_support import parts

# Values of a weight, from which on it counts as large.
LARGE = 2**14
# How far a moment may be from Keras', as a share of it.
_OFF = 2e-5

_Update = Callable[[Any, Any, Any], None]


def update_large_in_one_pass(optimizer: Any) -> None:
    """Changes how an optimizer updates large weights: Adam, AdamW and SGD; others stay as they are.

    It is Keras' arithmetic but for one thing: what a new gradient counts in Adam's moments,
    ``1 - beta``, is rounded in another place: for a ``beta_2`` of 0.999 in float32 it is smaller
    by one part in 77,000. The steps make up for that. Where it would be more than one in 50,000
    (a ``beta_2`` of 0.9995 and above), Keras' own operations remain.
    """
    for part in parts(optimizer):
        kind = type(part)
        if kind in (optimizers.Adam, optimizers.AdamW) and not part.amsgrad:
            part.update_step = functools.partial(_update, _adam, part, part.update_step)
        elif kind is optimizers.SGD:
            part.update_step = functools.partial(_update, _sgd, part, part.update_step)


def _update(
    rule: Callable[..., None],
    part: Any,
    otherwise: _Update,
    gradient: Any,
    variable: Any,
    rate: Any,
) -> None:
    """Keras' ``update_step``."""
    plain = variable.value if isinstance(variable, keras.Variable) else variable
    large = math.prod(plain.shape) > LARGE and plain.dtype in (tf.float32, tf.float64)
    if not large or not isinstance(gradient, tf.Tensor) or not _near(part, plain.dtype):
        otherwise(gradient, variable, rate)
        return
    place = part._get_variable_index(variable)
    rule(part, place, plain.handle, tf.cast(gradient, plain.dtype), tf.cast(rate, plain.dtype))


def _adam(part: Any, place: int, weight: Any, gradient: Any, rate: Any) -> None:
    one, two, epsilon, step = (
        tf.cast(each, gradient.dtype)
        for each in (part.beta_1, part.beta_2, part.epsilon, part.iterations + 1)
    )
    first, second = (
        _excess(beta, tf.cast(part.iterations + 1, tf.float64), gradient.dtype)
        for beta in (part.beta_1, part.beta_2)
    )
    root = tf.sqrt(second)
    tf.raw_ops.ResourceApplyAdam(
        var=weight,
        m=part._momentums[place].value.handle,
        v=part._velocities[place].value.handle,
        beta1_power=tf.pow(one, step),
        beta2_power=tf.pow(two, step),
        lr=rate * root / first,
        beta1=one,
        beta2=two,
        epsilon=epsilon * root,
        grad=gradient,
    )


def _excess(beta: float, step: Any, dtype: tf.DType) -> Any:
    """How many times Keras' a moment comes out, of gradients of one size."""
    ours, theirs = (
        1 - tf.pow(tf.constant(1 - each, tf.float64), step) for each in _shares(beta, dtype)
    )
    return tf.cast(ours / theirs, dtype)


def _near(part: Any, dtype: tf.DType) -> bool:
    """Whether the kernel's moments are Keras', all but."""
    betas = (getattr(part, name, 0.0) for name in ("beta_1", "beta_2"))
    shares = (_shares(beta, dtype) for beta in betas)
    return all(abs(ours / theirs - 1) < _OFF for ours, theirs in shares)


def _shares(beta: float, dtype: tf.DType) -> tuple[float, float]:
    """What a gradient counts in a moment as the kernel has it, and as Keras has it."""
    kind = dtype.as_numpy_dtype
    return float(kind(1) - kind(beta)), float(kind(1 - beta))


def _sgd(part: Any, place: int, weight: Any, gradient: Any, rate: Any) -> None:
    if not part.momentum:
        tf.raw_ops.ResourceApplyGradientDescent(var=weight, alpha=rate, delta=gradient)
        return
    tf.raw_ops.ResourceApplyKerasMomentum(
        var=weight,
        accum=part.momentums[place].value.handle,
        lr=rate,
        grad=gradient,
        momentum=tf.cast(part.momentum, gradient.dtype),
        use_nesterov=part.nesterov,
    )
