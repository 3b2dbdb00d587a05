"""A compiled Keras model as text and back, with no pickle and no code.

The driver describes a model once; workers rebuild it from the text.
"""

from __future__ import annotations

import contextlib
import json
import random
import re
import threading
from collections.abc import Iterator, Mapping
from importlib import import_module
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from cerebros_spark.core.errors import ArgumentError, TrialError
from cerebros_spark.training.keras import checkpoint, object_config
from cerebros_spark.training.keras.object_config import check_compiled
from cerebros_spark.training.keras.optimizer_support import (
    check_optimizer,
    leave_undecayed,
    undecayed,
)


def describe(model: keras.Model, class_weight: Mapping[int, float] | None = None) -> str:
    """A built and compiled model as JSON: architecture, compile configuration, outputs.

    Args:
        model: The model.
        class_weight: What rows of a class count in training, as in ``keras.Model.fit``; classes
            that are left out count 1.

    Raises:
        TrialError: If the model is not compiled, or can't be written as JSON.
        ArgumentError: If its optimizer, a loss or a metric would not be made again as it is, or a
            layer can't be trained partition by partition.
    """
    if not getattr(model, "compiled", False):
        raise TrialError("the model is not compiled; call compile() before it is returned")
    check_optimizer(model.optimizer, model.variables)
    _check_layers(model)
    try:
        architecture = json.loads(model.to_json())
        compiled = json.loads(json.dumps(compile_config(model)))
    except (TypeError, ValueError, NotImplementedError) as error:
        raise TrialError(f"the model can't be written as JSON: {_first_line(error)}") from error
    check_no_lambda([architecture, compiled])
    check_compiled(model, compiled)
    outputs = [
        {"name": name, "shape": list(tensor.shape[1:]), "dtype": str(tensor.dtype)}
        for name, tensor in zip(model.output_names, model.outputs, strict=True)
    ]
    described = {
        "architecture": architecture,
        "compile": compiled,
        "imports": sorted(set(_foreign_modules([architecture, compiled]))),
        "outputs": outputs,
    }
    policy = keras.saving.serialize_keras_object(model.dtype_policy)
    if policy != keras.saving.serialize_keras_object(keras.DTypePolicy("float32")):
        described["dtype_policy"] = policy
    without_decay = undecayed(model.optimizer, model.trainable_variables)
    if without_decay:
        described["undecayed"] = without_decay
    if class_weight is not None:
        described["class_weight"] = {str(number): float(w) for number, w in class_weight.items()}
    return json.dumps(described)


def check_no_lambda(config: Any) -> None:
    """Check that a model's configuration holds no lambda, which no worker could make again.

    Keras writes lambdas as bytecode, and executes it only in processes that allow this.

    Args:
        config: Configurations of models, layers or of ``compile``, as Keras writes them.

    Raises:
        TrialError: If there is one; the message names it.
    """
    for kind, name, argument in _lambdas(config):
        if kind == "Lambda":
            raise TrialError(
                "Lambda layers can't be sent to workers: write a Layer and name it in "
                f"custom_objects, instead of {name!r}"
            )
        raise TrialError(
            "lambdas can't be sent to workers: write a function and name it in custom_objects, "
            f"instead of the lambda that {repr(name) if name else 'compile()'} has as {argument}"
        )


def _lambdas(
    node: Any, layer: tuple[str, str] = ("", ""), argument: str = ""
) -> Iterator[tuple[str, str, str]]:
    """For each lambda the class and name of its layer, and the name of the argument that it is."""
    if isinstance(node, list | tuple):
        for value in node:
            yield from _lambdas(value, layer, argument)
    elif isinstance(node, dict):
        if _is_lambda(node):
            yield (*layer, argument)
            return
        config = node.get("config")
        if isinstance(config, dict) and "trainable" in config and "name" in config:
            layer = (str(node.get("class_name")), str(config["name"]))
        for key, each in node.items():
            yield from _lambdas(each, layer, argument if key == "config" else key)


def _is_lambda(node: dict[str, Any]) -> bool:
    # Of an activation Keras writes the inner part alone.
    value = node.get("value")
    if len(node) == 1 and isinstance(value, list | tuple) and len(value) == 3:
        return isinstance(value[0], str)
    return node.get("class_name") == "__lambda__"


def _first_line(error: BaseException) -> str:
    """What an error says, in a line; of Keras' advice on ``get_config`` the reason."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    found = re.match(r"Object (\w+) was created by passing", lines[0]) if lines else None
    if found:
        return (
            f"{found[1]} has no get_config, but arguments that are no plain values; write "
            "get_config() (and from_config)"
        )
    return lines[0] if lines else type(error).__name__


def _check_layers(model: keras.Model) -> None:
    """Refuse layers whose state or metrics have no meaning over partitions."""
    for layer in model._flatten_layers():
        if getattr(layer, "stateful", False):
            raise ArgumentError(
                f"cannot train the layer {layer.name!r}: it is stateful, but rows are shuffled and "
                "spread over partitions; build it with stateful=False"
            )
        # Keras leaves out those of a model within the model.
        if layer._metrics and (layer is model or not isinstance(layer, keras.Model)):
            raise ArgumentError(
                f"cannot report the metric {layer._metrics[0].name!r} of {layer.name!r}: only the "
                "metrics of compile() are merged over partitions; pass it to compile()"
            )


def compile_config(model: keras.Model) -> dict[str, Any]:
    """Return the arguments of a model's ``compile()``, as Keras serializes them.

    Keras leaves out whether compile() was to scale the loss.
    """
    config = object_config.compile_config(model)
    if isinstance(model.optimizer, keras.optimizers.LossScaleOptimizer):
        config["optimizer"] = keras.optimizers.serialize(model.optimizer)
    elif model.dtype_policy.name == "mixed_float16":
        config["auto_scale_loss"] = False
    return config


def rebuild(program: str) -> keras.Model:
    """The compiled model that :func:`describe` wrote, its optimizer built, its weights new.

    Its precision is the described model's, whatever the policy of this process. Layers, losses and
    metrics that are not Keras' own must be registered in a module that can be imported here, or be
    :func:`known`.

    Raises:
        TrialError: If one of them can't be found.
    """
    description = json.loads(program)
    policy = keras.dtype_policies.get(description.get("dtype_policy", "float32"))
    with drawing_from(0), imported(description), under_policy(policy):
        model = keras.models.model_from_json(json.dumps(description["architecture"]))
        model.compile_from_config(description["compile"])
        _build_optimizer(model)
        leave_undecayed(
            model.optimizer, model.trainable_variables, description.get("undecayed", ())
        )
    return model


def _build_optimizer(model: keras.Model) -> None:
    # A second time, some make their variables anew.
    if not model.optimizer.built:
        model.optimizer.build(model.trainable_variables)


@contextlib.contextmanager
def under_policy(policy: Any) -> Iterator[None]:
    """Has Keras make layers under a dtype policy in this thread; None changes nothing."""
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(before if policy is None else policy)
    try:
        yield
    finally:
        keras.config.set_dtype_policy(before)


_drawing = threading.RLock()


@contextlib.contextmanager
def drawing_from(seed: int) -> Iterator[None]:
    """Has Keras' initializers draw from a seed, and leaves the user's generator as it was.

    An initializer without a seed of its own takes one from Python's global generator. Threads
    that build models (workers of a ``LocalBackend`` beside the driver) take turns here, or they
    would draw from one another's streams.
    """
    with _drawing:
        before = random.getstate()
        random.seed(seed)
        try:
            yield
        finally:
            random.setstate(before)


@contextlib.contextmanager
def known(custom_objects: Mapping[str, Any] | None) -> Iterator[None]:
    """Has Keras know layers, losses and metrics of a user's own by their names.

    Args:
        custom_objects: Classes and functions by name; None or empty for none.
    """
    if not custom_objects:
        yield
        return
    # Building a network clears Keras' session, and with it the scopes of all threads.
    with _drawing, keras.saving.custom_object_scope(dict(custom_objects)):
        yield


@contextlib.contextmanager
def undisturbed(model: keras.Model) -> Iterator[None]:
    """For tracing a model whose layers compute in another precision than they keep.

    Keras notes the precision that it is in for the process, and ``clear_session()`` in a thread
    that builds a model would wipe the note out.
    """
    mixed = any(layer.compute_dtype != layer.variable_dtype for layer in model._flatten_layers())
    with _drawing if mixed else contextlib.nullcontext():
        yield


@contextlib.contextmanager
def imported(description: dict[str, Any]) -> Iterator[None]:
    """Imports the modules that define a program's own layers, losses and metrics.

    A module that is not here is no error yet: its objects may be :func:`known`.

    Raises:
        TrialError: If Keras can't find one of them in what follows.
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
        found = re.search(r"Could not locate \w+ '[^']*'", str(error))
        if found is None:
            raise
        told = found[0]
        where = f"; modules that can't be imported here: {', '.join(missing)}" if missing else ""
        raise TrialError(
            f"{told}{where}. Register it with keras.saving.register_keras_serializable in a module "
            "that every worker can import, or pass it in custom_objects"
        ) from error


class StateVariables:
    """The variables that make up a model's state, read and set quickly.

    Keras' own ``assign`` costs 60 µs a variable, and a Cerebros network has hundreds.
    """

    def __init__(self, model: keras.Model) -> None:
        everything = [*model.variables, *model.optimizer.variables]
        self._variables = [variable.value for variable in everything]
        self._like = [np.empty(v.shape, v.dtype.as_numpy_dtype) for v in self._variables]
        self._layout = checkpoint.layout(self._like)

    def read(self) -> bytes:
        """The state as bytes."""
        tensors = [
            tf.raw_ops.ReadVariableOp(resource=v.handle, dtype=v.dtype) for v in self._variables
        ]
        return checkpoint.pack(list(map(_seen, tensors)), self._layout)

    def write(self, data: bytes) -> None:
        """Sets the state from bytes."""
        for variable, array in zip(
            self._variables, checkpoint.unpack(data, self._like, self._layout), strict=True
        ):
            tf.raw_ops.AssignVariableOp(resource=variable.handle, value=array)


def _seen(tensor: Any) -> np.ndarray:
    """A tensor's values, to be copied at once: they are where it has them, if NumPy can."""
    if np.dtype(tensor.dtype.as_numpy_dtype).isbuiltin == 1:
        return np.asarray(memoryview(tensor))
    return np.asarray(tensor.numpy())


def initial_state(model: keras.Model) -> bytes:
    """The state of a compiled model as it stands."""
    _build_optimizer(model)
    return StateVariables(model).read()


def registered_in(program: str) -> dict[str, Any]:
    """Return the custom classes and functions that a program names and this process has registered.

    Args:
        program: As :func:`describe` wrote it.
    """
    description = json.loads(program)
    found = {}
    for name in _registered_names([description["architecture"], description["compile"]]):
        registered = keras.saving.get_registered_object(name)
        if registered is not None:
            found[name] = registered
    return found


def dicts_of(node: Any) -> Iterator[dict[str, Any]]:
    """Yield every dict in a configuration, an outer one before those in it."""
    if isinstance(node, dict):
        yield node
    for value in node.values() if isinstance(node, dict) else node:
        if isinstance(value, dict | list):
            yield from dicts_of(value)


def _registered_names(config: Any) -> Iterator[str]:
    for node in dicts_of(config):
        if isinstance(node.get("registered_name"), str):
            yield node["registered_name"]


def _foreign_modules(config: Any) -> Iterator[str]:
    """Modules outside Keras that a configuration's objects are defined in."""
    for node in dicts_of(config):
        module = node.get("module")
        own = isinstance(module, str) and module.split(".")[0] not in ("keras", "builtins")
        if own and "class_name" in node:
            yield str(module)
