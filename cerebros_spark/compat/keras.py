"""Access to private attributes of Keras, verified with version 3.15.1."""

from __future__ import annotations

import types
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from keras.src.utils import naming


def adam_moments(optimizer: Any, index: int) -> tuple[Any, Any]:
    """Return Adam's first and second gradient moments for the trainable variable at ``index``."""
    return optimizer._momentums[index], optimizer._velocities[index]


def apply_without_replicas(optimizer: Any) -> None:
    """Make an optimizer apply gradients without summing them across replicas (no all-reduce)."""
    classes = {kind.__name__: kind for kind in type(optimizer).__mro__}
    distributed = vars(classes["TFOptimizer"])["_backend_update_step"]
    if type(optimizer)._backend_update_step is distributed:
        plain = vars(classes["BaseOptimizer"])["_backend_update_step"]
        optimizer._backend_update_step = types.MethodType(plain, optimizer)
    else:
        # Nadam's update step does more, and ends with the all-reduce.
        optimizer._all_reduce_sum_gradients = list


def clear_layer_losses(model: Any) -> None:
    """Clear the losses that the layers of a model added in their last call."""
    model._clear_losses()


def compile_arguments(model: Any) -> Mapping[str, Any]:
    """Return the ``model.compile()`` arguments by name, unserialized; empty if not compiled."""
    arguments: Mapping[str, Any] = getattr(getattr(model, "_compile_config", None), "config", {})
    return arguments


def compiled_loss(model: Any) -> Any:
    """Return the ``CompileLoss`` of a model; None if the model has no loss."""
    return model._compile_loss


def compiled_metrics(model: Any) -> Any:
    """Return the ``CompileMetrics`` of a model; None if the model has no metrics."""
    return model._compile_metrics


def flat_losses(model: Any) -> list[tuple[Any, float | None]]:
    """Return ``(loss, loss weight)`` of each output of a model; a weight of None means 1."""
    return [(loss, weight) for _, loss, weight, _ in model._compile_loss._flat_losses]


def flat_metrics(model: Any) -> tuple[list[list[Any]], list[list[Any]]]:
    """Return a model's unweighted and weighted metrics, each with one list per output."""
    compiled = model._compile_metrics
    if compiled is None:
        return [], []
    unweighted, weighted = (
        [list(group.metrics) if group else [] for group in groups]
        for groups in (compiled._flat_metrics, compiled._flat_weighted_metrics)
    )
    return unweighted, weighted


def flatten_layers(layer: Any, include_self: bool = True) -> list[Any]:
    """Return a layer or model and all layers within it, outer layers first."""
    return list(layer._flatten_layers(include_self=include_self))


def function_arguments(wrapper: Any) -> Mapping[str, Any]:
    """Return the keyword arguments for the function that a loss or metric wraps; may be empty."""
    return getattr(wrapper, "_fn_kwargs", None) or {}


def inbound_nodes(layer: Any) -> list[Any]:
    """Return the nodes of a layer, one per call, with ``input_tensors`` and ``output_tensors``."""
    return list(layer._inbound_nodes)


def inputs_structure(model: Any) -> Any:
    """Return the inputs of a functional model in the structure that it was built from."""
    return model._inputs_struct


def keras_history(tensor: Any) -> Any:
    """Return ``(operation, node index, tensor index)`` of a Keras tensor; None if it is not one."""
    return getattr(tensor, "_keras_history", None)


def layer_metrics(layer: Any) -> list[Any]:
    """Return the metrics that a layer tracks, excluding those of its inner layers."""
    return list(layer._metrics)


def learning_rate_argument(optimizer: Any) -> Any:
    """Return an optimizer's learning rate: variable, schedule or function; None if it has none."""
    return getattr(optimizer, "_learning_rate", None)


def loss_tracker(model: Any) -> Any:
    """Return the metric that tracks a model's total loss."""
    return model._loss_tracker


def metric_direction(metric: Any) -> str | None:
    """Return ``"up"`` if higher values of a metric are better, else ``"down"``; None if unknown."""
    direction: str | None = getattr(metric, "_direction", None)
    return direction


def optimizer_variables(optimizer: Any) -> list[Any]:
    """Return the trainable variables that an optimizer was built for."""
    return list(optimizer._trainable_variables)


def outputs_structure(model: Any) -> Any:
    """Return the outputs of a functional model in the structure that it was built from."""
    return model._outputs_struct


def replace_update(
    optimizer: Any, update: Callable[[Sequence[Any], Sequence[Any], Any], None]
) -> None:
    """Make an optimizer call ``update(gradients, variables, learning_rate)`` as its update step."""
    optimizer._backend_update_step = update


def set_monitor_direction(callback: Any) -> None:
    """Make a callback infer from its model's metrics whether higher monitored values are better."""
    callback._set_monitor_op()


def share_steps(optimizer: Any, other: Any) -> None:
    """Make an optimizer use another optimizer's step counters, without tracking them as its own."""
    for name in ("_iterations", "gradient_accumulation_steps"):
        object.__setattr__(optimizer, name, getattr(other, name))


def to_snake_case(name: str) -> str:
    """Return a class name in snake case, as in Keras' default layer and metric names."""
    return str(naming.to_snake_case(name))


def traces_batches(callback: Any) -> bool:
    """Return whether a ``TensorBoard`` callback profiles batches."""
    return bool(callback._should_trace)


def uses_weight_decay(optimizer: Any, variable: Any) -> bool:
    """Return whether an optimizer applies weight decay to a variable."""
    return bool(optimizer._use_weight_decay(variable.value))


def variable_index(optimizer: Any, variable: Any) -> int:
    """Return the index of a variable among those that an optimizer was built for."""
    index: int = optimizer._get_variable_index(variable)
    return index


def variable_key(optimizer: Any, variable: Any) -> Any:
    """Return the key by which an optimizer identifies a variable."""
    return optimizer._var_key(variable)


def wrapped_function(metric: Any) -> Callable[..., Any]:
    """Return the function that a ``MeanMetricWrapper`` averages."""
    function: Callable[..., Any] = metric._fn
    return function
