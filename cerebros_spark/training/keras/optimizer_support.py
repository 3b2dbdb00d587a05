"""Optimizer checks before training, and optimizer setup that Keras' configurations omit."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import keras
import tensorflow as tf

from cerebros_spark.compat import keras as compat
from cerebros_spark.core.errors import ArgumentError


def flatten_optimizer(optimizer: Any) -> list[Any]:
    """Return an optimizer, followed by all optimizers that it wraps, directly or indirectly."""
    wrapped = getattr(optimizer, "inner_optimizer", None)
    inner = [] if wrapped is None else [wrapped]
    if type(optimizer).__name__ == "MultiOptimizer":  # not in the oldest supported Keras
        inner += list(optimizer.optimizers)
    return [optimizer, *(part for each in inner for part in flatten_optimizer(each))]


def scale_gradients(optimizer: Any, scale: float) -> None:
    """Make an optimizer multiply the loss by ``scale`` before its gradient is computed."""
    if scale == 1.0:
        return
    scale_loss = optimizer.scale_loss
    optimizer.scale_loss = lambda loss: scale_loss(loss) * scale


def build_optimizer(model: keras.Model) -> None:
    """Build a compiled model's optimizer, unless it is already built."""
    # Some optimizers create their variables again when they are built twice.
    if not model.optimizer.built:
        model.optimizer.build(model.trainable_variables)


def check_optimizer(optimizer: Any, variables: Sequence[Any]) -> None:
    """Reject an optimizer that would train differently when its state moves between workers.

    Args:
        optimizer: The optimizer.
        variables: The network's variables, which the optimizer may reference.

    Raises:
        ArgumentError: If the optimizer cannot be serialized, keeps state outside its variables, or
            acts only at the end of ``fit``.
    """
    tracked = {id(_to_tf_variable(variable)) for variable in (*variables, *optimizer.variables)}
    for part in flatten_optimizer(optimizer):
        _check_rate_and_averages(part)
        _check_state(part, tracked)
    try:
        keras.optimizers.deserialize(keras.optimizers.serialize(optimizer))
    except (AttributeError, NotImplementedError, TypeError, ValueError) as error:
        raise ArgumentError(
            f"cannot serialize the optimizer {optimizer.name!r}: {error}; a custom optimizer or "
            "learning rate schedule needs get_config(), and "
            "keras.saving.register_keras_serializable in a module that workers can import"
        ) from error


def _check_rate_and_averages(part: Any) -> None:
    rate = compat.learning_rate_argument(part)
    if callable(rate) and not _is_schedule(rate) and not isinstance(rate, keras.Variable):
        raise ArgumentError(
            f"cannot use the learning rate of the optimizer {part.name!r}: it is a function, and "
            "its value would be fixed when a worker traces it; derive a "
            "keras.optimizers.schedules.LearningRateSchedule instead"
        )
    if getattr(part, "use_ema", False) and not part.ema_overwrite_frequency:
        raise ArgumentError(
            f"cannot use the optimizer {part.name!r}: it has use_ema=True and no "
            "ema_overwrite_frequency, so Keras would apply the averages when fit() ends, after "
            "the last validation; give ema_overwrite_frequency, the number of steps after which "
            "weights become averages"
        )


def _check_state(part: Any, tracked: set[int]) -> None:
    rate = compat.learning_rate_argument(part)
    for holder in (part, rate) if _is_schedule(rate) else (part,):
        for name, value in vars(holder).items():
            if name.startswith("_self_"):  # TensorFlow's tracking
                continue
            if (
                not {id(_to_tf_variable(variable)) for variable in _find_variables(value)}
                <= tracked
            ):
                raise ArgumentError(
                    f"cannot use the optimizer {part.name!r}: {type(holder).__name__}.{name} holds "
                    "state that is not among its variables, so it would not move with the "
                    "weights; create it with add_variable() of the optimizer"
                )


def _is_schedule(rate: Any) -> bool:
    return isinstance(rate, keras.optimizers.schedules.LearningRateSchedule)


def _to_tf_variable(variable: Any) -> Any:
    return variable.value if isinstance(variable, keras.Variable) else variable


def _find_variables(value: Any) -> Iterator[Any]:
    if isinstance(value, keras.Variable | tf.Variable):
        yield value
    elif isinstance(value, keras.random.SeedGenerator):
        yield value.state
    elif isinstance(value, list | tuple | set | dict):
        for each in value.values() if isinstance(value, dict) else value:
            yield from _find_variables(each)


def find_weight_decay_exclusions(optimizer: Any, variables: Sequence[Any]) -> list[list[int]]:
    """Find the variables that are excluded from weight decay.

    Keras' configurations omit these exclusions.

    Args:
        optimizer: The optimizer.
        variables: The network's trainable variables.

    Returns:
        For each optimizer of :func:`flatten_optimizer`, the indices of its excluded variables. The
        list is empty if no variable is excluded.
    """
    exclusions = [
        [i for i, v in enumerate(variables) if not compat.uses_weight_decay(part, v)]
        for part in flatten_optimizer(optimizer)
    ]
    return exclusions if any(exclusions) else []


def exclude_from_weight_decay(
    optimizer: Any, variables: Sequence[Any], exclusions: Sequence[Sequence[int]]
) -> None:
    """Exclude the variables that :func:`find_weight_decay_exclusions` found from weight decay."""
    for part, positions in zip(flatten_optimizer(optimizer), exclusions, strict=False):
        part.exclude_from_weight_decay(var_list=[variables[i] for i in positions])


def update_without_replicas(optimizer: Any) -> None:
    """Make an optimizer update variables without summing gradients across replicas (no all-reduce).

    On TensorFlow, Keras computes the sum even for a single replica. The sum is a custom gradient,
    which TensorFlow keeps in memory with its whole graph until the process ends.
    """
    for part in flatten_optimizer(optimizer):
        compat.apply_without_replicas(part)
