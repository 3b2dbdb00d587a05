"""What an optimizer is besides its configuration: checked before it trains, and set up again."""

from __future__ import annotations

import types
from collections.abc import Iterator, Sequence
from typing import Any

import keras
import tensorflow as tf

from cerebros_spark.core.errors import ArgumentError


def parts(optimizer: Any) -> list[Any]:
    """An optimizer and those that it wraps, itself first."""
    wrapped = getattr(optimizer, "inner_optimizer", None)
    inner = [] if wrapped is None else [wrapped]
    if type(optimizer).__name__ == "MultiOptimizer":  # newer than the oldest Keras there may be
        inner += list(optimizer.optimizers)
    return [optimizer, *(part for each in inner for part in parts(each))]


def check_optimizer(optimizer: Any, variables: Sequence[Any]) -> None:
    """Refuses an optimizer that would not train as it does in Keras when its state moves on.

    Args:
        optimizer: The optimizer.
        variables: The network's variables, which it may hold.

    Raises:
        ArgumentError: If it can't be written down and made again, keeps state outside its
            variables, or does something at the end of Keras' ``fit`` only.
    """
    travelling = {id(_plain(variable)) for variable in (*variables, *optimizer.variables)}
    for part in parts(optimizer):
        _check_part(part, travelling)
    try:
        keras.optimizers.deserialize(keras.optimizers.serialize(optimizer))
    except (AttributeError, NotImplementedError, TypeError, ValueError) as error:
        raise ArgumentError(
            f"the optimizer {optimizer.name!r} can't be written down and made again: {error}; an "
            "optimizer or a learning rate schedule of one's own needs get_config(), and "
            "keras.saving.register_keras_serializable in a module that workers can import"
        ) from error


def _check_part(part: Any, travelling: set[int]) -> None:
    rate = getattr(part, "_learning_rate", None)
    schedule = isinstance(rate, keras.optimizers.schedules.LearningRateSchedule)
    if callable(rate) and not schedule and not isinstance(rate, keras.Variable):
        raise ArgumentError(
            f"the learning rate of the optimizer {part.name!r} is a function, whose value would "
            "be fixed when a worker traces it; derive a "
            "keras.optimizers.schedules.LearningRateSchedule, which is given the step"
        )
    if getattr(part, "use_ema", False) and not part.ema_overwrite_frequency:
        raise ArgumentError(
            f"the optimizer {part.name!r} has use_ema=True and no ema_overwrite_frequency: Keras "
            "would put the averages in place when fit() ends, after the last validation; give "
            "ema_overwrite_frequency, the number of steps after which weights become averages"
        )
    for holder in (part, rate) if schedule else (part,):
        for name, value in vars(holder).items():
            # TensorFlow's own notes begin so.
            left_out = not name.startswith("_self_") and any(
                id(_plain(found)) not in travelling for found in _variables_in(value)
            )
            if left_out:
                raise ArgumentError(
                    f"{type(holder).__name__}.{name} holds state that is not among the variables "
                    f"of the optimizer {part.name!r}, so it would not travel with the weights; "
                    "make it with add_variable() of the optimizer"
                )


def _plain(variable: Any) -> Any:
    return variable.value if isinstance(variable, keras.Variable) else variable


def _variables_in(value: Any) -> Iterator[Any]:
    if isinstance(value, keras.Variable | tf.Variable):
        yield value
    elif isinstance(value, keras.random.SeedGenerator):
        yield value.state
    elif isinstance(value, list | tuple | set | dict):
        for each in value.values() if isinstance(value, dict) else value:
            yield from _variables_in(each)


def undecayed(optimizer: Any, variables: Sequence[Any]) -> list[list[int]]:
    """Which variables were taken from weight decay: no configuration of Keras tells.

    Args:
        optimizer: The optimizer.
        variables: The network's trainable variables.

    Returns:
        For each of :func:`parts` the positions of its variables that do not decay; empty where
        all of them do.
    """
    told = [
        [i for i, v in enumerate(variables) if not part._use_weight_decay(v.value)]
        for part in parts(optimizer)
    ]
    return told if any(told) else []


def leave_undecayed(
    optimizer: Any, variables: Sequence[Any], told: Sequence[Sequence[int]]
) -> None:
    """Takes variables from weight decay as :func:`undecayed` told."""
    for part, positions in zip(parts(optimizer), told, strict=False):
        part.exclude_from_weight_decay(var_list=[variables[i] for i in positions])


def update_without_replicas(optimizer: Any) -> None:
    """Has an optimizer update variables directly, as Keras does on its other backends.

    On TensorFlow it sums gradients over replicas first. There is one replica here, and that sum
    is a custom gradient, which TensorFlow keeps for as long as the process lives, with the whole
    graph around it: a worker would grow with every trial.
    """
    for part in parts(optimizer):
        kinds = {kind.__name__: kind for kind in type(part).__mro__}
        distributed: Any = kinds["TFOptimizer"].__dict__["_backend_update_step"]
        plain: Any = kinds["BaseOptimizer"].__dict__["_backend_update_step"]
        if type(part)._backend_update_step is distributed:
            part._backend_update_step = types.MethodType(plain, part)
        else:
            # It does more there than update variables (Nadam), and ends in the sum.
            part._all_reduce_sum_gradients = list
