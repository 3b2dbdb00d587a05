"""Networks of the user's own as a space: what builds them, and how they are made complete."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Mapping, Sequence
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
from nas.spaces.fixed_model import FixedModel
from nas.spaces.functional import completed


class Source(Protocol):
    """Where networks of the user's own come from."""

    def build(self, hp: Any, input_shapes: Any = None, input_dtypes: Any = None) -> Any:
        """A compiled ``keras.Model``; the inputs are for one that doesn't know its own."""

    def describe(self) -> Any:
        """What tells it from another, as JSON, for a run that is gone on with."""

    @property
    def code(self) -> Any:
        """The function or object whose code builds networks; None if there is no custom one."""


class OwnSpace:
    """Builds the user's networks for one data set.

    Args:
        source: What builds them.
        input_shapes: Shape of one row of each input.
        input_dtypes: Type of each input.
        custom_objects: Layers, losses and metrics that are not Keras' own, by name.
        labels: The labels of each output, which losses and metrics must suit; None where they are
            not known yet.
    """

    def __init__(
        self,
        source: Source,
        input_shapes: Sequence[tuple[int, ...]],
        input_dtypes: Sequence[str],
        custom_objects: Mapping[str, Any],
        labels: Sequence[Labels] | None = None,
    ) -> None:
        self._source = source
        self._inputs = (tuple(input_shapes), tuple(input_dtypes))
        self._custom_objects = custom_objects
        self._labels = labels
        self._outputs: list[tuple[Any, ...]] | None = None

    def build(self, hp: Any) -> keras.Model:
        """The compiled network of the values in ``hp``, with inputs and outputs by name.

        Raises:
            TrialError: If its outputs are others than those of the first network.
            ArgumentError: If it can't be completed.
            Exception: Whatever the user's own code raises.
        """
        model = built_anew(self._source, hp, self._custom_objects, *self._inputs)
        # Anew: who builds may have cleared the session, too.
        with custom_object_scope(self._custom_objects), import_custom_modules({"imports": []}):
            model = completed(model, *self._inputs)
        outputs = [tuple(tensor.shape[1:]) for tensor in model.outputs]
        if self._outputs is None:
            self._outputs = outputs
        if outputs != self._outputs:
            raise TrialError(
                f"every network must have the outputs of the first, {self._outputs}, but this one "
                f"has {outputs}: hyperparameters must not change the shape of an output"
            )
        if self._labels is not None:
            suit(model, self._labels, self._custom_objects)
        return model


def built_anew(
    source: Source,
    hp: Any,
    custom_objects: Mapping[str, Any],
    shapes: Any = None,
    dtypes: Any = None,
) -> Any:
    """What a source builds, with names that count from the start.

    Otherwise the names of layers count on, and with them the names of metrics. Keras forgets its
    dtype policy with them, so that is set again.
    """
    policy = keras.config.dtype_policy()
    with dtype_policy_scope(policy):
        keras.backend.clear_session()
        keras.config.set_dtype_policy(policy)
        with custom_object_scope(custom_objects):
            return source.build(hp, shapes, dtypes)


def suit(model: keras.Model, labels: Sequence[Labels], custom_objects: Mapping[str, Any]) -> None:
    """Compile a model again with metrics that suit its labels, if those it has do not.

    Args:
        model: A compiled functional model.
        labels: The labels of each output.
        custom_objects: Layers, losses and metrics that are not Keras' own, by name.

    Raises:
        ArgumentError: Keras would compute a loss or a metric wrong, or fail; the message names it.
    """
    names = model.output_names
    losses = losses_of(model, custom_objects)
    forms = [
        infer_form(name, each, math.prod(tensor.shape[1:]), find_activation(tensor), loss)
        for name, each, tensor, loss in zip(names, labels, model.outputs, losses, strict=True)
    ]
    for form, loss in zip(forms, losses, strict=True):
        check_loss(loss, form)
    with custom_object_scope(custom_objects):
        try:
            config = get_compile_config(model)
            given = {
                name: keras.saving.deserialize_keras_object(config.get(name))
                for name in ("metrics", "weighted_metrics")
            }
        except (TypeError, ValueError, NotImplementedError):
            return  # serialize_model() reports what cannot be written
        suited = {name: adapt_compiled_metrics(each, forms, names) for name, each in given.items()}
        changed = {
            name: serialize_object(each) for name, each in suited.items() if each is not None
        }
        if changed:
            without_decay = find_weight_decay_exclusions(model.optimizer, model.trainable_variables)
            model.compile_from_config({**config, **changed})
            exclude_from_weight_decay(model.optimizer, model.trainable_variables, without_decay)


def losses_of(model: keras.Model, custom_objects: Mapping[str, Any]) -> list[Any]:
    """Return what ``compile()`` was given as the loss of each output; None for none."""
    with custom_object_scope(custom_objects):
        given = keras.saving.deserialize_keras_object(model.get_compile_config().get("loss"))
        if isinstance(given, dict):
            each = [given.get(name) for name in model.output_names]
        elif isinstance(given, list | tuple):
            each = list(given)
        else:
            each = [given] * len(model.outputs)
        if len(each) != len(model.outputs):
            raise ArgumentError(
                f"the model has {len(model.outputs)} outputs, but is compiled with {len(each)} "
                "losses"
            )
        return each


class _Function:
    """A function of hyperparameters."""

    def __init__(self, build: Callable[[Any], Any]) -> None:
        self._build = build

    def build(self, hp: Any, input_shapes: Any = None, input_dtypes: Any = None) -> Any:
        return self._build(hp)

    def describe(self) -> Any:
        return {"function": _qualified(self._build)}

    @property
    def code(self) -> Any:
        return self._build


class _HyperModel:
    """A ``keras_tuner.HyperModel``."""

    def __init__(self, model: keras_tuner.HyperModel) -> None:
        self._model = model

    def build(self, hp: Any, input_shapes: Any = None, input_dtypes: Any = None) -> Any:
        self._model.declare_hyperparameters(hp)
        return self._model.build(hp)

    def describe(self) -> Any:
        return {"hypermodel": _qualified(type(self._model)), "name": self._model.name}

    @property
    def code(self) -> Any:
        return self._model


def source_of(hypermodel: Any) -> Source:
    """What the user gave, as something that builds.

    Raises:
        ArgumentError: If it can't build networks; the message names it.
    """
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
            f"hypermodel is the class {hypermodel.__name__}; give an instance of it, or a function "
            "build(hp) that makes one"
        )
    if isinstance(hypermodel, keras_tuner.HyperModel):
        if type(hypermodel).fit is not keras_tuner.HyperModel.fit:
            raise ArgumentError(
                f"{type(hypermodel).__name__}.fit can't be used: workers train partition by "
                "partition, not by model.fit. Leave it out; callbacks, batch_size and epochs are "
                "arguments of HyperHyperModel.fit, and a hyperparameter 'batch_size' is heeded"
            )
        return _HyperModel(hypermodel)
    if callable(hypermodel):
        return _Function(hypermodel)
    raise ArgumentError(
        "hypermodel must be a function build(hp) that gives a compiled keras.Model, a "
        f"keras_tuner.HyperModel, a keras.Model or a FixedModel, but got {hypermodel!r}"
    )


def custom_objects_of(given: Mapping[str, Any] | None) -> dict[str, Any]:
    """The user's own classes and functions by every name that Keras writes for them.

    What was registered in ``__main__`` (a notebook's cell) is added: no worker can import it.

    Raises:
        ArgumentError: If something is no class or function with a name.
    """
    if given is not None and not isinstance(given, Mapping):
        raise ArgumentError(
            f'custom_objects must be a dict such as {{"MyLayer": MyLayer}}, but got {given!r}'
        )
    found = {
        name: each
        for name, each in keras.saving.get_custom_objects().items()
        if getattr(each, "__module__", None) == "__main__"
    }
    for name, each in (given or {}).items():
        if not isinstance(name, str) or not callable(each):
            raise ArgumentError(
                "custom_objects must hold classes and functions by name, but got "
                f"{name!r}: {each!r}"
            )
        found[name] = each
        found[keras.saving.get_registered_name(each)] = each
    return found


def describe_source(source: Source | None) -> Any:
    """What tells a source from another, as JSON; None for none."""
    return None if source is None else source.describe()


def _qualified(value: Any) -> str:
    if isinstance(value, functools.partial):
        return f"partial of {_qualified(value.func)}"
    if not hasattr(value, "__qualname__"):
        value = type(value)
    return f"{value.__module__}.{value.__qualname__}"
