"""Search space of networks built by user code."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import autokeras as ak
import keras
import keras_tuner

from cerebros_spark.core.errors import ArgumentError, TrialError
from cerebros_spark.training.keras.optimizer_support import (
    exclude_from_weight_decay,
    find_weight_decay_exclusions,
)
from cerebros_spark.training.keras.scopes import custom_object_scope, dtype_policy_scope
from cerebros_spark.training.keras.serialization import (
    get_compile_config,
    import_custom_modules,
    serialize_object,
)
from nas.metrics.adaptation import adapt_compiled_metrics
from nas.metrics.labels import Labels, find_activation, infer_form
from nas.metrics.loss_checks import check_loss
from nas.spaces.base import Space
from nas.spaces.fixed_model import FixedModel
from nas.spaces.functional import complete_model


class UserBuilder(Protocol):
    """Protocol of objects that build networks from user code."""

    def build(self, hp: Any, input_shapes: Any = None, input_dtypes: Any = None) -> Any:
        """Build a compiled ``keras.Model``; shapes and dtypes are used only if it lacks inputs."""

    def describe(self) -> Any:
        """Return a JSON-serializable description that must be unchanged when a run is resumed."""

    @property
    def code(self) -> Any:
        """Function or object with the code that builds networks; None if there is none."""


@dataclass
class UserSpace(Space):
    """Search space of the user's networks for one data set.

    Attributes:
        builder: Builder of the networks.
        input_shapes: Shape of one row of each input, without the batch dimension.
        input_dtypes: Dtype of each input.
        custom_objects: Custom layers, losses and metrics, by name.
        labels: Description of each output's labels, with which losses and metrics must be
            compatible; None if unknown.
    """

    builder: UserBuilder
    input_shapes: Sequence[tuple[int, ...]]
    input_dtypes: Sequence[str]
    custom_objects: Mapping[str, Any]
    labels: Sequence[Labels] | None = None
    _outputs: list[tuple[Any, ...]] | None = field(default=None, init=False)

    def build(self, hp: Any) -> keras.Model:
        """Build a compiled functional network from hyperparameter values.

        Raises:
            TrialError: If ``build`` returns no compiled model, or one whose output shapes differ
                from those of the first network.
            ArgumentError: If the model cannot be converted to a functional one, or if Keras would
                fail or compute a loss or metric wrongly.
            Exception: Any exception that the user's code raises.
        """
        inputs = self.input_shapes, self.input_dtypes
        model = build_in_new_session(self.builder, hp, self.custom_objects, *inputs)
        # A new scope, because the user's code may also have cleared the session.
        with custom_object_scope(self.custom_objects), import_custom_modules({"imports": []}):
            model = complete_model(model, *inputs)
        outputs = [tuple(tensor.shape[1:]) for tensor in model.outputs]
        if self._outputs is None:
            self._outputs = outputs
        if outputs != self._outputs:
            raise TrialError(
                f"every network must have the outputs of the first, {self._outputs}, but this one "
                f"has {outputs}: hyperparameters must not change the shape of an output"
            )
        if self.labels is not None:
            adapt_to_labels(model, self.labels, self.custom_objects)
        return model


def build_in_new_session(
    builder: UserBuilder,
    hp: Any,
    custom_objects: Mapping[str, Any],
    shapes: Any = None,
    dtypes: Any = None,
) -> Any:
    """Clear the Keras session and build a network.

    Clearing the session restarts the numbers in default layer names. Otherwise these numbers, which
    also occur in metric names, would grow with every network. The dtype policy, which clearing
    resets, is restored.
    """
    policy = keras.config.dtype_policy()
    with dtype_policy_scope(policy):
        keras.backend.clear_session(free_memory=False)
        keras.config.set_dtype_policy(policy)
        with custom_object_scope(custom_objects):
            return builder.build(hp, shapes, dtypes)


def adapt_to_labels(
    model: keras.Model, labels: Sequence[Labels], custom_objects: Mapping[str, Any]
) -> None:
    """Recompile a model, if necessary, with metrics that are compatible with each output's labels.

    Raises:
        ArgumentError: If Keras would fail or compute a loss or metric wrongly.
    """
    names = model.output_names
    losses = get_losses(model, custom_objects)
    forms = [
        infer_form(name, each, math.prod(tensor.shape[1:]), find_activation(tensor), loss)
        for name, each, tensor, loss in zip(names, labels, model.outputs, losses, strict=True)
    ]
    for form, loss in zip(forms, losses, strict=True):
        check_loss(loss, form)
    with custom_object_scope(custom_objects):
        try:
            config = get_compile_config(model)
            metrics = {
                name: keras.saving.deserialize_keras_object(config.get(name))
                for name in ("metrics", "weighted_metrics")
            }
        except (TypeError, ValueError, NotImplementedError):
            return  # rejected later, when the model is serialized
        adapted = {
            name: adapt_compiled_metrics(value, forms, names) for name, value in metrics.items()
        }
        changes = {
            name: serialize_object(value) for name, value in adapted.items() if value is not None
        }
        if changes:
            variables = model.trainable_variables
            exclusions = find_weight_decay_exclusions(model.optimizer, variables)
            model.compile_from_config({**config, **changes})
            exclude_from_weight_decay(model.optimizer, variables, exclusions)


def get_losses(model: keras.Model, custom_objects: Mapping[str, Any]) -> list[Any]:
    """Return each output's loss as passed to ``compile()``; None if an output has no loss."""
    with custom_object_scope(custom_objects):
        loss = keras.saving.deserialize_keras_object(model.get_compile_config().get("loss"))
    if isinstance(loss, dict):
        return [loss.get(name) for name in model.output_names]
    losses = list(loss) if isinstance(loss, list | tuple) else [loss] * len(model.outputs)
    if len(losses) != len(model.outputs):
        raise ArgumentError(
            f"the model has {len(model.outputs)} outputs, but is compiled with {len(losses)} losses"
        )
    return losses


class _FunctionBuilder:
    """Builder that calls a function ``build(hp)``."""

    def __init__(self, build: Callable[[Any], Any]) -> None:
        self.code: Any = build

    def build(self, hp: Any, input_shapes: Any = None, input_dtypes: Any = None) -> Any:
        return self.code(hp)

    def describe(self) -> Any:
        return {"function": _get_qualified_name(self.code)}


class _HyperModelBuilder:
    """Builder that calls a ``keras_tuner.HyperModel``."""

    def __init__(self, hypermodel: keras_tuner.HyperModel) -> None:
        self.code: Any = hypermodel

    def build(self, hp: Any, input_shapes: Any = None, input_dtypes: Any = None) -> Any:
        self.code.declare_hyperparameters(hp)
        return self.code.build(hp)

    def describe(self) -> Any:
        return {"hypermodel": _get_qualified_name(type(self.code)), "name": self.code.name}


def make_user_builder(hypermodel: Any) -> UserBuilder:
    """Make a builder from the user's ``hypermodel``; raise ArgumentError if it is invalid."""
    if isinstance(hypermodel, FixedModel):
        return hypermodel
    if isinstance(hypermodel, keras.Model):
        return FixedModel(hypermodel)
    if isinstance(hypermodel, ak.Block):
        raise ArgumentError(
            f"hypermodel is the AutoKeras block {type(hypermodel).__name__}; put it between inputs "
            "and outputs: outputs=ak.RegressionHead()(block(inputs))"
        )
    if isinstance(hypermodel, type) and issubclass(
        hypermodel, keras_tuner.HyperModel | keras.Model
    ):
        raise ArgumentError(
            f"hypermodel is the class {hypermodel.__name__}; pass an instance of it, or a function "
            "build(hp) that makes one"
        )
    if isinstance(hypermodel, keras_tuner.HyperModel):
        if type(hypermodel).fit is not keras_tuner.HyperModel.fit:
            raise ArgumentError(
                f"cannot use {type(hypermodel).__name__}.fit: workers train partition by partition "
                "without model.fit. Remove it; callbacks, batch_size and epochs are arguments of "
                "HyperHyperModel.fit, and a hyperparameter 'batch_size' takes effect"
            )
        return _HyperModelBuilder(hypermodel)
    if callable(hypermodel):
        return _FunctionBuilder(hypermodel)
    raise ArgumentError(
        "hypermodel must be a function build(hp) that returns a compiled keras.Model, a "
        f"keras_tuner.HyperModel, a keras.Model or a FixedModel, but got {hypermodel!r}"
    )


def collect_custom_objects(custom_objects: Mapping[str, Any] | None) -> dict[str, Any]:
    """Return custom classes and functions by every name that Keras may write for them.

    Registered objects that are defined in ``__main__`` (such as in a notebook) are included,
    because workers cannot import them.

    Raises:
        ArgumentError: If ``custom_objects`` is not a dict of classes and functions by name.
    """
    if custom_objects is not None and not isinstance(custom_objects, Mapping):
        raise ArgumentError(
            f'custom_objects must be a dict such as {{"MyLayer": MyLayer}}, but got '
            f"{custom_objects!r}"
        )
    collected = {
        name: value
        for name, value in keras.saving.get_custom_objects().items()
        if getattr(value, "__module__", None) == "__main__"
    }
    for name, value in (custom_objects or {}).items():
        if not isinstance(name, str) or not callable(value):
            raise ArgumentError(
                "custom_objects must hold classes and functions by name, but got "
                f"{name!r}: {value!r}"
            )
        collected[name] = value
        collected[keras.saving.get_registered_name(value)] = value
    return collected


def _get_qualified_name(value: Any) -> str:
    if isinstance(value, functools.partial):
        return f"partial of {_get_qualified_name(value.func)}"
    if not hasattr(value, "__qualname__"):
        value = type(value)
    return f"{value.__module__}.{value.__qualname__}"
