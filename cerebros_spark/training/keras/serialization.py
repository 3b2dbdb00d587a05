"""Conversion of compiled Keras models and other Keras objects to JSON and back, without pickle.

The driver serializes a model once as a *program*, a JSON string without code, from which every
worker builds the same model.
"""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Iterator, Mapping
from importlib import import_module
from typing import Any

import keras

from cerebros_spark.compat import keras as compat
from cerebros_spark.core.errors import TrialError
from cerebros_spark.training.keras import config_checks, optimizer_support
from cerebros_spark.training.keras.scopes import dtype_policy_scope, seeded_initializers


def serialize_model(model: keras.Model, class_weight: Mapping[int, float] | None = None) -> str:
    """Serialize a built and compiled model as a program.

    Args:
        model: The model.
        class_weight: Weight of each class in the training loss, by class index, as in
            ``keras.Model.fit``; omitted classes have weight 1. None if there are no class weights.

    Returns:
        JSON with the architecture, compile configuration, outputs and settings that Keras omits.

    Raises:
        TrialError: If the model is not compiled, or cannot be written as JSON.
        ArgumentError: If the configuration would not reproduce the optimizer, a loss or a metric,
            or if a layer cannot be trained partition by partition.
    """
    if not getattr(model, "compiled", False):
        raise TrialError("cannot serialize the model: it is not compiled; call compile() first")
    optimizer_support.check_optimizer(model.optimizer, model.variables)
    config_checks.check_partitioned_training(model)
    try:
        architecture = json.loads(model.to_json())
        compiled = json.loads(json.dumps(get_compile_config(model)))
    except (TypeError, ValueError, NotImplementedError) as error:
        raise TrialError(f"cannot write the model as JSON: {_shorten_error(error)}") from error
    config_checks.check_no_lambda([architecture, compiled])
    config_checks.check_compiled(model, compiled)
    program = {
        "architecture": architecture,
        "compile": compiled,
        "imports": sorted(set(_find_custom_modules([architecture, compiled]))),
        "outputs": [
            {"name": name, "shape": list(tensor.shape[1:]), "dtype": str(tensor.dtype)}
            for name, tensor in zip(model.output_names, model.outputs, strict=True)
        ],
    }
    policy = keras.saving.serialize_keras_object(model.dtype_policy)
    if policy != keras.saving.serialize_keras_object(keras.DTypePolicy("float32")):
        program["dtype_policy"] = policy
    exclusions = optimizer_support.find_weight_decay_exclusions(
        model.optimizer, model.trainable_variables
    )
    if exclusions:
        program["undecayed"] = exclusions
    if class_weight is not None:
        program["class_weight"] = {str(index): float(w) for index, w in class_weight.items()}
    return json.dumps(program)


def set_gradient_scale(program: str, scale: float) -> str:
    """Return a copy of a program that multiplies the loss gradient by a constant.

    The reported loss does not change. The scale is meant for optimizers such as Adam, whose updates
    do not depend on the size of the gradients. If the scale makes gradients about 1, whatever unit
    the labels have, the optimizer's epsilon is negligible, and the squared gradients are finite.
    """
    return f'{program[:-1]}, "gradient_scale": {json.dumps(float(scale))}}}'


def deserialize_model(program: str) -> keras.Model:
    """Deserialize a program to a compiled model with a built optimizer and newly drawn weights.

    The model has the program's dtype policy, whatever the policy of this process is. Custom layers,
    losses and metrics must be registered by a module that can be imported here, or be in a
    ``custom_object_scope``.

    Raises:
        TrialError: If Keras cannot find a custom object.
    """
    description = json.loads(program)
    policy = keras.dtype_policies.get(description.get("dtype_policy", "float32"))
    with seeded_initializers(0), import_custom_modules(description), dtype_policy_scope(policy):
        model = keras.models.model_from_json(json.dumps(description["architecture"]))
        model.compile_from_config(description["compile"])
        optimizer_support.build_optimizer(model)
        optimizer_support.exclude_from_weight_decay(
            model.optimizer, model.trainable_variables, description.get("undecayed", ())
        )
    return model


def serialize_object(value: Any) -> Any:
    """Serialize a Keras object, or a list, tuple or dict of such objects, with all arguments.

    Keras omits some arguments of its losses and metrics, such as the ``delta`` of ``Huber``. An
    object built from Keras' configuration would have their default values.
    """
    config = keras.saving.serialize_keras_object(value)
    _complete(value, config)
    return config


def get_compile_config(model: keras.Model) -> dict[str, Any]:
    """Return the serialized arguments of a model's ``compile()``.

    The result includes what Keras' configuration omits: some arguments of losses and metrics, and
    ``auto_scale_loss``.
    """
    config: dict[str, Any] = model.get_compile_config()
    arguments = compat.compile_arguments(model)
    for name in config_checks.SCORING_ARGUMENTS:
        _complete(arguments.get(name), config.get(name))
    if isinstance(model.optimizer, keras.optimizers.LossScaleOptimizer):
        config["optimizer"] = keras.optimizers.serialize(model.optimizer)
    elif model.dtype_policy.name == "mixed_float16":
        config["auto_scale_loss"] = False
    return config


def _complete(value: Any, config: Any) -> None:
    """Complete ``config``, the configuration of ``value``, with arguments that Keras omits."""
    if isinstance(value, Mapping) and isinstance(config, dict):
        for name in value.keys() & config.keys():
            _complete(value[name], config[name])
    elif isinstance(value, list | tuple) and isinstance(config, list | tuple):
        for each, each_config in zip(value, config, strict=False):
            _complete(each, each_config)
    elif isinstance(config, dict) and isinstance(config.get("config"), dict):
        arguments = compat.function_arguments(value)
        for name in arguments.keys() & config_checks.get_init_parameters(type(value)):
            config["config"].setdefault(name, serialize_object(arguments[name]))


@contextlib.contextmanager
def import_custom_modules(description: Mapping[str, Any]) -> Iterator[None]:
    """Return a context manager that imports the modules of a parsed program's custom objects.

    The caller deserializes the program within it, and a ``TrialError`` replaces Keras' lookup
    errors. A missing module alone is not an error, because its objects may be in a
    ``custom_object_scope``.

    Raises:
        TrialError: If Keras cannot find a custom object within the context.
    """
    missing = []
    for module in description["imports"]:
        try:
            import_module(module)
        except ImportError as error:
            missing.append(f"{module} ({error})")
    try:
        yield
    except TypeError as error:
        match = re.search(r"Could not locate \w+ '[^']*'", str(error))
        if match is None:
            raise
        where = f"; modules that cannot be imported here: {', '.join(missing)}" if missing else ""
        raise TrialError(
            f"{match[0]}{where}. Register it with keras.saving.register_keras_serializable in a "
            "module that every worker can import, or pass it in custom_objects"
        ) from error


def find_registered_objects(program: str) -> dict[str, Any]:
    """Return a program's custom objects that are registered with Keras in this process, by name."""
    description = json.loads(program)
    registered = {}
    for node in iterate_dicts([description["architecture"], description["compile"]]):
        name = node.get("registered_name")
        if isinstance(name, str):
            registered[name] = keras.saving.get_registered_object(name)
    return {name: value for name, value in registered.items() if value is not None}


def iterate_dicts(node: Any) -> Iterator[dict[str, Any]]:
    """Yield all dicts in a nested configuration, each before the dicts that it contains."""
    if isinstance(node, dict):
        yield node
    for value in node.values() if isinstance(node, dict) else node:
        if isinstance(value, dict | list):
            yield from iterate_dicts(value)


def _find_custom_modules(config: Any) -> Iterator[str]:
    for node in iterate_dicts(config):
        module = node.get("module")
        custom = isinstance(module, str) and module.split(".")[0] not in ("keras", "builtins")
        if custom and "class_name" in node:
            yield str(module)


def _shorten_error(error: BaseException) -> str:
    """Return an error's first line, or advice if a class lacks ``get_config``."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    match = re.match(r"Object (\w+) was created by passing", lines[0]) if lines else None
    if match:
        return (
            f"{match[1]} has no get_config, but it has arguments that are not plain values; write "
            "get_config() (and from_config)"
        )
    return lines[0] if lines else type(error).__name__
