"""A user's model made complete: named outputs, known inputs, constants instead of adapted state."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Any

import keras
import numpy as np

from cerebros_spark.core.errors import ArgumentError, TrialError
from cerebros_spark.training.keras.config_checks import check_no_lambda
from cerebros_spark.training.keras.optimizer_support import (
    exclude_from_weight_decay,
    find_weight_decay_exclusions,
)
from cerebros_spark.training.keras.scopes import dtype_policy_scope
from cerebros_spark.training.keras.serialization import get_compile_config
from nas.trial.failures import summarize_error

_PLAIN = (bool, int, float, str)
_OTHERS = ("name", "built")  # attributes that differ in copies
Shapes = Sequence[tuple[int, ...]] | None


def completed(model: Any, input_shapes: Shapes = None, input_dtypes: Any = None) -> keras.Model:
    """A compiled model as a functional one that holds the same layers and weights.

    Only functional models have outputs with names, which a merged metric needs. A Sequential
    without an Input and a subclassed model are called with inputs of the data's shapes.

    Args:
        model: The model, as its user made it.
        input_shapes: Shape of one row of each input, for a model that doesn't know them.
        input_dtypes: Type of each input, likewise.

    Raises:
        TrialError: If it is no model, not compiled, or compiled with a lambda.
        ArgumentError: If it can't be trained here; the message says why and what to do.
    """
    if not isinstance(model, keras.Model):
        raise TrialError(f"build(hp) must return a keras.Model, but got {model!r}")
    if not model.compiled:
        raise TrialError(
            f"the model {model.name!r} is not compiled; call compile() before it is returned"
        )
    check_no_lambda(model.get_compile_config())
    with dtype_policy_scope(model.dtype_policy):
        whole = functional(model, input_shapes, input_dtypes)
        if whole is not model:
            compile_like(whole, model)
        return without_adapted(whole)


def compile_like(model: keras.Model, other: keras.Model) -> None:
    """Compiles a model as another one that has the same trainable variables, in the same order."""
    model.compile_from_config(get_compile_config(other))
    left_out = find_weight_decay_exclusions(other.optimizer, other.trainable_variables)
    exclude_from_weight_decay(model.optimizer, model.trainable_variables, left_out)


def functional(model: keras.Model, input_shapes: Shapes, input_dtypes: Any) -> keras.Model:
    """A model as a functional one; see :func:`completed`."""
    if knows_outputs(model):
        if isinstance(model._outputs_struct, dict):
            raise _dict_of_outputs(model)
        if not isinstance(model._inputs_struct, dict):
            return model
    for step in ("train_step", "test_step", "compute_loss"):
        if getattr(type(model), step) is not getattr(keras.Model, step):
            raise ArgumentError(
                f"{type(model).__name__}.{step} can't be used: the model is trained as part of a "
                "functional one. Build it from inputs and outputs (keras.Model.__init__(inputs=, "
                "outputs=)), or write a loss for compile()"
            )
    if knows_outputs(model):
        # Rows come as a list, in the order in which Keras has the inputs of a dict.
        ends = model.outputs if isinstance(model._outputs_struct, list | tuple) else model.output
        return keras.Model(model.inputs, ends, name=model.name)
    if isinstance(model, keras.Sequential):
        if not model.built:
            model.build((None, *_needed(model, input_shapes)[0]))
        return keras.Model(model.inputs[0], model.outputs[0], name=model.name)
    return _called(model, _needed(model, input_shapes), input_dtypes)


def knows_outputs(model: keras.Model) -> bool:
    """Whether a model has inputs and outputs with names, as functional ones have."""
    return hasattr(model, "output_names") and hasattr(model, "inputs")


def known_inputs(model: keras.Model) -> dict[str, tuple[Any, ...]] | None:
    """Shape of one row of each input, by its name; None if the model does not say."""
    inputs = getattr(model, "inputs", None)
    return None if not inputs else {tensor.name: tuple(tensor.shape[1:]) for tensor in inputs}


def without_adapted(model: keras.Model) -> keras.Model:
    """Writes the statistics of adapted Normalization layers into the architecture.

    As weights they would not count: Keras takes an adapted layer's statistics from its variables
    once, and not when the variables are set.
    """
    layers = [
        layer
        for layer in model._flatten_layers(include_self=False)
        if isinstance(layer, keras.layers.Normalization)
        and layer.input_mean is None
        and layer.built
    ]
    if not layers:
        return model
    found = {layer.name: _statistics(layer) for layer in layers}
    if len(found) < len(layers):
        raise ArgumentError(
            f"two Normalization layers of {model.name!r} have the same name; give them different "
            "names"
        )
    config = json.loads(model.to_json())
    _patch(config, found)
    rebuilt = keras.models.model_from_json(json.dumps(config))
    if model.compiled:
        compile_like(rebuilt, model)
    gone = {id(variable) for layer in layers for variable in layer.variables}
    rebuilt.set_weights([v.numpy() for v in model.weights if id(v) not in gone])
    return rebuilt


def culprit(model: keras.Model, error: Exception) -> str:
    """Return which custom layer of a model can't be made again, and what to do, in a line.

    Args:
        model: The model.
        error: What Keras raised when the model was made again; told if no layer is found.
    """
    for layer in _custom_layers(model):
        kind = type(layer)
        try:
            kind.from_config(layer.get_config())
        except Exception as reason:
            if not _has_config(kind):
                return (
                    f"{kind.__name__} has no get_config: write get_config(), and an __init__ that "
                    "takes what it gives (or from_config)"
                )
            return (
                f"{kind.__name__}.get_config() does not fit its __init__ or from_config: "
                f"{summarize_error(reason)}"
            )
    return summarize_error(error)


def without_config(model: keras.Model) -> list[str]:
    """Return the names of a model's custom classes that have no ``get_config`` of their own."""
    kinds = {type(layer) for layer in _custom_layers(model)}
    return sorted(kind.__name__ for kind in kinds if not _has_config(kind))


def unlike(model: keras.Model, other: keras.Model) -> str | None:
    """Return which custom class without ``get_config`` differs in two models; None for none.

    Of a subclassed model Keras writes the defaults of ``__init__``, not what it was given. So made
    again it may be another network, with weights of the same shapes.
    """
    pairs = zip(_custom_layers(model), _custom_layers(other), strict=False)
    for mine, again in pairs:
        if not _has_config(type(mine)):
            for inner, inner_again in zip(
                mine._flatten_layers(), again._flatten_layers(), strict=False
            ):
                if _settings(inner) != _settings(inner_again):
                    return f"{type(mine).__name__} has no get_config, so it gets default arguments"
    return None


def _settings(layer: Any) -> tuple[Any, ...]:
    """A layer's class and plain attributes, however it was made."""
    held = {
        name: value
        for name, value in vars(layer).items()
        if type(value) in _PLAIN and not name.startswith("_") and name not in _OTHERS
    }
    activation = getattr(layer, "activation", None)
    return type(layer), held, getattr(activation, "__name__", None)


def _custom_layers(model: keras.Model) -> Iterator[Any]:
    """Layers and models of classes that are not Keras' own, the innermost first."""
    for layer in reversed(model._flatten_layers()):
        if not type(layer).__module__.startswith("keras."):
            yield layer


def _has_config(kind: type) -> bool:
    return kind.get_config not in (  # type: ignore[attr-defined]
        keras.Model.get_config,
        keras.layers.Layer.get_config,
    )


def _statistics(layer: Any) -> dict[str, Any]:
    mean = np.asarray(layer.adapt_mean)
    variance = np.asarray(layer.adapt_variance)
    return {"mean": mean.tolist(), "variance": variance.tolist()}


def _patch(node: Any, found: dict[str, dict[str, Any]]) -> None:
    if isinstance(node, dict):
        config = node.get("config")
        if node.get("class_name") == "Normalization" and isinstance(config, dict):
            config.update(found.get(str(config.get("name")), {}))
        for value in node.values():
            _patch(value, found)
    elif isinstance(node, list):
        for value in node:
            _patch(value, found)


def _needed(model: keras.Model, input_shapes: Shapes) -> Sequence[tuple[int, ...]]:
    if input_shapes is None:
        raise ArgumentError(f"the model {model.name!r} has no inputs yet; give it an Input first")
    return input_shapes


def _called(model: keras.Model, shapes: Sequence[tuple[int, ...]], dtypes: Any) -> keras.Model:
    """A subclassed model behind inputs of the data's shapes."""
    title = type(model).__name__
    try:
        model.get_config()
    except NotImplementedError as error:
        raise ArgumentError(
            f"the subclassed model {title} has no get_config, so workers can't make it again: "
            "write get_config() (and from_config, if its arguments are not plain values), or "
            "build it from inputs and outputs"
        ) from error
    types = dtypes or ["float32"] * len(shapes)
    nodes = [
        keras.Input(shape, dtype=dtype, name=f"input_{i}")
        for i, (shape, dtype) in enumerate(zip(shapes, types, strict=True))
    ]
    try:
        tensors = model(nodes if len(nodes) > 1 else nodes[0])
    except (ValueError, TypeError) as error:
        raise ArgumentError(
            f"the subclassed model {title} can't be called with rows of the data's shapes "
            f"{list(shapes)}: {error}"
        ) from error
    if isinstance(tensors, dict):
        raise _dict_of_outputs(model)
    several = isinstance(tensors, list | tuple)
    # A subclassed model's own name is not in its config, and metrics are named after outputs.
    named = [
        keras.layers.Identity(name=f"output_{i}" if several else "output")(tensor)
        for i, tensor in enumerate(tensors if several else [tensors])
    ]
    return keras.Model(nodes, named if several else named[0])


def _dict_of_outputs(model: keras.Model) -> ArgumentError:
    return ArgumentError(
        f"the model {model.name!r} gives a dict of outputs; give a list: labels are matched with "
        "outputs by their order"
    )
