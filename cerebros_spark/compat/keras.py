"""Private attributes of Keras, as seen in Keras 3.15.1. Functions are in alphabetical order."""

from __future__ import annotations

import types
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from keras.src.utils import naming


def adam_moments(optimizer: Any, index: int) -> tuple[Any, Any]:
    """Return the variables of Adam's first and second moment at an index."""
    return optimizer._momentums[index], optimizer._velocities[index]


def apply_without_replicas(optimizer: Any) -> None:
    """Make an optimizer update variables without the sum of gradients over replicas."""
    classes = {kind.__name__: kind for kind in type(optimizer).__mro__}
    distributed = vars(classes["TFOptimizer"])["_backend_update_step"]
    if type(optimizer)._backend_update_step is distributed:
        plain = vars(classes["BaseOptimizer"])["_backend_update_step"]
        optimizer._backend_update_step = types.MethodType(plain, optimizer)
    else:
        # Nadam updates more than variables there, and ends in the sum.
        optimizer._all_reduce_sum_gradients = list


def clear_layer_losses(model: Any) -> None:
    """Clear the losses that a model's layers added in their last call."""
    model._clear_losses()


def compile_arguments(model: Any) -> Mapping[str, Any]:
    """Return the arguments of a model's ``compile()`` as objects; empty if it was not called."""
    arguments: Mapping[str, Any] = getattr(getattr(model, "_compile_config", None), "config", {})
    return arguments


def compiled_loss(model: Any) -> Any:
    """Return the ``CompileLoss`` of a model; None without a loss."""
    return model._compile_loss


def compiled_metrics(model: Any) -> Any:
    """Return the ``CompileMetrics`` of a model; None without metrics."""
    return model._compile_metrics


def flat_losses(model: Any) -> list[tuple[Any, float | None]]:
    """Return the loss function and the loss weight of each output of a model."""
    return [(loss, weight) for _, loss, weight, _ in model._compile_loss._flat_losses]


def flat_metrics(model: Any) -> tuple[list[list[Any]], list[list[Any]]]:
    """Return the unweighted and the weighted metrics of a model, each as a list per output."""
    compiled = model._compile_metrics
    if compiled is None:
        return [], []
    unweighted, weighted = (
        [list(group.metrics) if group else [] for group in groups]
        for groups in (compiled._flat_metrics, compiled._flat_weighted_metrics)
    )
    return unweighted, weighted


def flatten_layers(layer: Any, include_self: bool = True) -> list[Any]:
    """Return a layer or model and all layers within it, an outer layer before its inner ones."""
    return list(layer._flatten_layers(include_self=include_self))


def function_arguments(wrapper: Any) -> Mapping[str, Any]:
    """Return the keyword arguments of the function that a loss or metric wraps, if any."""
    return getattr(wrapper, "_fn_kwargs", None) or {}


def inbound_nodes(layer: Any) -> list[Any]:
    """Return a node per call of a layer, with ``input_tensors`` and ``output_tensors``."""
    return list(layer._inbound_nodes)


def inputs_structure(model: Any) -> Any:
    """Return the inputs of a functional model in the structure that it was built from."""
    return model._inputs_struct


def keras_history(tensor: Any) -> Any:
    """Return the operation, node index and tensor index of a Keras tensor; None for others."""
    return getattr(tensor, "_keras_history", None)


def layer_metrics(layer: Any) -> list[Any]:
    """Return the metrics that a layer itself tracks."""
    return list(layer._metrics)


def learning_rate_argument(optimizer: Any) -> Any:
    """Return an optimizer's learning rate as it is stored: a variable, schedule or function."""
    return getattr(optimizer, "_learning_rate", None)


def loss_tracker(model: Any) -> Any:
    """Return the metric that holds a model's total loss."""
    return model._loss_tracker


def metric_direction(metric: Any) -> str | None:
    """Return ``"up"`` or ``"down"`` for the better values of a metric; None if unknown."""
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
    """Make an optimizer call ``update(gradients, variables, learning_rate)``."""
    optimizer._backend_update_step = update


def set_monitor_direction(callback: Any) -> None:
    """Make a callback look up in its model's metrics whether more of its monitor is better."""
    callback._set_monitor_op()


def share_steps(optimizer: Any, other: Any) -> None:
    """Make an optimizer count its steps in the variable of another one, without tracking it."""
    for name in ("_iterations", "gradient_accumulation_steps"):
        object.__setattr__(optimizer, name, getattr(other, name))


def to_snake_case(name: str) -> str:
    """Return a class name as Keras writes it in the default names of layers and metrics."""
    return str(naming.to_snake_case(name))


def traces_batches(callback: Any) -> bool:
    """Return whether a ``TensorBoard`` callback profiles batches."""
    return bool(callback._should_trace)


def uses_weight_decay(optimizer: Any, variable: Any) -> bool:
    """Return whether an optimizer decays a variable."""
    return bool(optimizer._use_weight_decay(variable.value))


def variable_index(optimizer: Any, variable: Any) -> int:
    """Return the position of a variable among those that an optimizer was built for."""
    index: int = optimizer._get_variable_index(variable)
    return index


def variable_key(optimizer: Any, variable: Any) -> Any:
    """Return the key by which an optimizer identifies a variable."""
    return optimizer._var_key(variable)


def wrapped_function(metric: Any) -> Callable[..., Any]:
    """Return the function that a ``MeanMetricWrapper`` computes the mean of."""
    function: Callable[..., Any] = metric._fn
    return function
