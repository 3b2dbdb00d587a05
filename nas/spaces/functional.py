"""Conversion of models to functional models with named outputs and constant normalization."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import keras
import numpy as np

from cerebros_spark.compat.keras import flatten_layers, inputs_structure, outputs_structure
from cerebros_spark.core.errors import ArgumentError, TrialError
from cerebros_spark.training.keras.config_checks import check_no_lambda
from cerebros_spark.training.keras.optimizer_support import (
    exclude_from_weight_decay,
    find_weight_decay_exclusions,
)
from cerebros_spark.training.keras.scopes import dtype_policy_scope
from cerebros_spark.training.keras.serialization import get_compile_config, iterate_dicts
from nas.trial.failures import summarize_error

_PLAIN = (bool, int, float, str)
_VARYING = ("name", "built")  # attributes that differ between copies
Shapes = Sequence[tuple[int, ...]] | None


def complete_model(
    model: Any, input_shapes: Shapes = None, input_dtypes: Any = None
) -> keras.Model:
    """Convert a compiled model to a compiled functional one with the same layers and weights.

    Only functional models have the named outputs that are needed to merge metrics across workers. A
    Sequential model without an ``Input`` is built for the data's shapes. A subclassed model is
    called on inputs with the data's shapes and dtypes. The statistics of adapted ``Normalization``
    layers become constants.

    Args:
        model: Compiled ``keras.Model``.
        input_shapes: Shape of one row of each input, without the batch dimension; required if the
            model has no inputs, and otherwise None is allowed.
        input_dtypes: Dtype of each input; if None, all are ``"float32"``.

    Returns:
        The functional model; ``model`` itself if no conversion is needed.

    Raises:
        TrialError: If ``model`` is not a compiled model, or is compiled with a lambda.
        ArgumentError: If the model cannot be converted.
    """
    if not isinstance(model, keras.Model):
        raise TrialError(f"build(hp) must return a keras.Model, but got {model!r}")
    if not model.compiled:
        raise TrialError(
            f"the model {model.name!r} is not compiled; call compile() before returning it"
        )
    check_no_lambda(model.get_compile_config())
    with dtype_policy_scope(model.dtype_policy):
        functional = to_functional(model, input_shapes, input_dtypes)
        if functional is not model:
            compile_like(functional, model)
        return inline_statistics(functional)


def compile_like(model: keras.Model, other: keras.Model) -> None:
    """Compile ``model`` like ``other``, whose trainable variables match and have the same order."""
    model.compile_from_config(get_compile_config(other))
    exclusions = find_weight_decay_exclusions(other.optimizer, other.trainable_variables)
    exclude_from_weight_decay(model.optimizer, model.trainable_variables, exclusions)


def to_functional(model: keras.Model, input_shapes: Shapes, input_dtypes: Any) -> keras.Model:
    """Convert a model to a functional one, but do not compile it; see :func:`complete_model`."""
    if has_named_outputs(model):
        if isinstance(outputs_structure(model), dict):
            raise _make_dict_error(model)
        if not isinstance(inputs_structure(model), dict):
            return model
    for step in ("train_step", "test_step", "compute_loss"):
        if getattr(type(model), step) is not getattr(keras.Model, step):
            raise ArgumentError(
                f"cannot use {type(model).__name__}.{step}: the model is trained as part of a "
                "functional one. Build it from inputs and outputs (keras.Model.__init__(inputs=, "
                "outputs=)), or pass a custom loss to compile()"
            )
    if has_named_outputs(model):
        # Inputs are passed as a list, in the order in which Keras stores a dict of inputs.
        several = isinstance(outputs_structure(model), list | tuple)
        return keras.Model(
            model.inputs, model.outputs if several else model.output, name=model.name
        )
    if isinstance(model, keras.Sequential):
        if not model.built:
            model.build((None, *_require_shapes(model, input_shapes)[0]))
        return keras.Model(model.inputs[0], model.outputs[0], name=model.name)
    return _call_subclassed(model, _require_shapes(model, input_shapes), input_dtypes)


def has_named_outputs(model: keras.Model) -> bool:
    """Return whether a model has named inputs and outputs, as functional models do."""
    return hasattr(model, "output_names") and hasattr(model, "inputs")


def get_input_shapes(model: keras.Model) -> dict[str, tuple[Any, ...]] | None:
    """Return the row shape of each input by name, or None if the model has no inputs yet."""
    inputs = getattr(model, "inputs", None)
    return None if not inputs else {tensor.name: tuple(tensor.shape[1:]) for tensor in inputs}


def inline_statistics(model: keras.Model) -> keras.Model:
    """Return the model with adapted Normalization layers' statistics as constants of its config.

    As weights, the statistics could not be restored: Keras reads the variables of an adapted layer
    only once, so setting them later has no effect. A model without such layers is returned
    unchanged.
    """
    layers = [
        layer
        for layer in flatten_layers(model, include_self=False)
        if isinstance(layer, keras.layers.Normalization)
        and layer.input_mean is None
        and layer.built
    ]
    if not layers:
        return model
    statistics = {
        layer.name: {
            "mean": np.asarray(layer.adapt_mean).tolist(),
            "variance": np.asarray(layer.adapt_variance).tolist(),
        }
        for layer in layers
    }
    if len(statistics) < len(layers):
        raise ArgumentError(
            f"two Normalization layers of {model.name!r} have the same name; give them different "
            "names"
        )
    architecture = json.loads(model.to_json())
    for node in iterate_dicts(architecture):
        config = node.get("config")
        if node.get("class_name") == "Normalization" and isinstance(config, dict):
            config.update(statistics.get(str(config.get("name")), {}))
    return rebuild(model, architecture, layers)


def rebuild(model: keras.Model, architecture: Any, constant: Iterable[Any]) -> keras.Model:
    """Rebuild a model from a changed architecture, with the same weights and compile settings.

    ``architecture`` is the changed result of ``model.to_json()``, parsed. ``constant`` contains the
    layers whose variables became constants in it.
    """
    rebuilt = keras.models.model_from_json(json.dumps(architecture))
    if model.compiled:
        compile_like(rebuilt, model)
    removed = {id(variable) for layer in constant for variable in layer.variables}
    rebuilt.set_weights([v.numpy() for v in model.weights if id(v) not in removed])
    return rebuilt


def explain_rebuild_failure(model: keras.Model, error: Exception) -> str:
    """Return one line that names a custom layer that cannot be rebuilt, and how to fix it.

    If every custom layer can be rebuilt, return a summary of ``error``.
    """
    for layer in _iterate_custom_layers(model):
        kind = type(layer)
        try:
            kind.from_config(layer.get_config())
        except Exception as reason:
            if not _has_config(kind):
                return (
                    f"{kind.__name__} has no get_config: write get_config(), and an __init__ that "
                    "accepts its items (or from_config)"
                )
            return (
                f"{kind.__name__}.get_config() does not fit its __init__ or from_config: "
                f"{summarize_error(reason)}"
            )
    return summarize_error(error)


def find_classes_without_config(model: keras.Model) -> list[str]:
    """Return the names of the custom classes in a model that do not define ``get_config``."""
    kinds = {type(layer) for layer in _iterate_custom_layers(model)}
    return sorted(kind.__name__ for kind in kinds if not _has_config(kind))


def describe_difference(model: keras.Model, copy: keras.Model) -> str | None:
    """Describe how ``copy`` differs because a custom class lacks ``get_config``.

    For such a class, Keras serializes the defaults of ``__init__`` instead of the given arguments.
    The copy may then be a different network, even if its weight shapes are the same. Return None if
    no difference is found.
    """
    pairs = zip(_iterate_custom_layers(model), _iterate_custom_layers(copy), strict=False)
    for layer, layer_copy in pairs:
        if _has_config(type(layer)):
            continue
        inner = zip(flatten_layers(layer), flatten_layers(layer_copy), strict=False)
        if any(_get_settings(one) != _get_settings(other) for one, other in inner):
            return f"{type(layer).__name__} has no get_config, so it gets default arguments"
    return None


def _get_settings(layer: Any) -> tuple[Any, ...]:
    attributes = {
        name: value
        for name, value in vars(layer).items()
        if type(value) in _PLAIN and not name.startswith("_") and name not in _VARYING
    }
    activation = getattr(layer, "activation", None)
    return type(layer), attributes, getattr(activation, "__name__", None)


def _iterate_custom_layers(model: keras.Model) -> Iterator[Any]:
    """Iterate over the model's layers and submodels of custom classes, innermost first."""
    for layer in reversed(flatten_layers(model)):
        if not type(layer).__module__.startswith("keras."):
            yield layer


def _has_config(kind: Any) -> bool:
    return kind.get_config not in (keras.Model.get_config, keras.layers.Layer.get_config)


def _require_shapes(model: keras.Model, input_shapes: Shapes) -> Sequence[tuple[int, ...]]:
    if input_shapes is None:
        raise ArgumentError(f"the model {model.name!r} has no inputs yet; give it an Input first")
    return input_shapes


def _call_subclassed(
    model: keras.Model, shapes: Sequence[tuple[int, ...]], dtypes: Any
) -> keras.Model:
    title = f"the subclassed model {type(model).__name__}"
    try:
        model.get_config()
    except NotImplementedError as error:
        raise ArgumentError(
            f"{title} has no get_config, so workers cannot rebuild it: write get_config() (and "
            "from_config, if its arguments are not plain values), or build it from inputs and "
            "outputs"
        ) from error
    dtypes = dtypes or ["float32"] * len(shapes)
    nodes = [
        keras.Input(shape, dtype=dtype, name=f"input_{i}")
        for i, (shape, dtype) in enumerate(zip(shapes, dtypes, strict=True))
    ]
    try:
        tensors = model(nodes if len(nodes) > 1 else nodes[0])
    except (ValueError, TypeError) as error:
        raise ArgumentError(
            f"cannot call {title} with rows of the data's shapes {list(shapes)}: {error}"
        ) from error
    if isinstance(tensors, dict):
        raise _make_dict_error(model)
    several = isinstance(tensors, list | tuple)
    # Metrics are named after outputs, but the config of a subclassed model lacks its name.
    named = [
        keras.layers.Identity(name=f"output_{i}" if several else "output")(tensor)
        for i, tensor in enumerate(tensors if several else [tensors])
    ]
    return keras.Model(nodes, named if several else named[0])


def _make_dict_error(model: keras.Model) -> ArgumentError:
    return ArgumentError(
        f"the model {model.name!r} returns a dict of outputs; return a list: labels are matched to "
        "outputs by order"
    )
