"""Search space of optimizers, learning rates and batch sizes for one architecture."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Iterable, Sequence
from typing import Any

import keras
import numpy as np

from cerebros_spark.compat.keras import flatten_layers
from cerebros_spark.core.errors import ArgumentError, TrialError
from cerebros_spark.core.validation import check_integer, check_real
from cerebros_spark.training.keras.config_checks import check_no_lambda
from cerebros_spark.training.keras.scopes import dtype_policy_scope
from cerebros_spark.training.keras.serialization import get_compile_config
from nas.spaces.functional import (
    describe_difference,
    explain_rebuild_failure,
    inline_statistics,
    to_functional,
)
from nas.spaces.validation import check_flag, check_list

logger = logging.getLogger(__name__)

# Fields that differ between copies of a model in one process, or that follow from other fields.
_NAME_FIELDS = frozenset(
    {"name", "keras_history", "input_layers", "output_layers", "compile_config", "build_config"}
)

# Layers whose statistics are updated in training without gradients.
_STATISTICS_LAYERS = (keras.layers.BatchNormalization, keras.layers.SpectralNormalization)


class FixedModel:
    """Search space of training settings for one model.

    The hyperparameters are ``optimizer``, ``learning_rate`` (drawn on a logarithmic scale) and
    ``batch_size``, which overrides the batch size of ``fit``. If the model is compiled, its
    optimizer is a candidate, too, and the default; it keeps all settings except the learning rate.
    The model itself is neither trained nor changed.

    Args:
        model: Functional or Sequential ``keras.Model``, or a subclassed one with ``get_config``. A
            model without inputs gets inputs with the data's shapes.
        keep_weights: Whether every trial starts with all of the model's weights, as for a
            pretrained model. If False, frozen layers keep their weights, and the other weights are
            initialized from the trial's seed; a log message says so. The statistics of adapted
            ``Normalization`` layers are always kept.
        learning_rate: Lowest and highest learning rate, or a single fixed one.
        optimizers: Names of Keras optimizers to search over.
        batch_sizes: Batch sizes, in rows per training step, to search over.
        loss: Keras loss that replaces the compiled one; if None, that one is kept.
        metrics: Keras metrics that replace the compiled ones; if None, those are kept.

    Raises:
        ArgumentError: If an argument is invalid, or if the model has no loss and ``loss`` is None.

    Example:
        >>> search = HyperHyperModel(hypermodel=FixedModel(model, keep_weights=True))
    """

    def __init__(
        self,
        model: keras.Model,
        keep_weights: bool = False,
        learning_rate: Sequence[float] = (1e-4, 1e-1),
        optimizers: Sequence[str] = ("adam", "sgd", "rmsprop", "adamw"),
        batch_sizes: Sequence[int] = (16, 32, 64),
        loss: Any = None,
        metrics: Any = None,
    ) -> None:
        if not isinstance(model, keras.Model):
            raise ArgumentError(f"model must be a keras.Model, but got {model!r}")
        if check_flag("keep_weights", keep_weights) and not model.built:
            raise ArgumentError(
                f"keep_weights=True, but the model {model.name!r} is not built and has no weights"
            )
        self._model = model
        self._keep_weights = keep_weights
        self._learning_rates = _check_learning_rates(learning_rate)
        self._batch_sizes = _check_batch_sizes(batch_sizes)
        self._compile_config = _make_compile_config(model, loss, metrics)
        try:
            check_no_lambda([_get_config(model), self._compile_config])
        except TrialError as error:
            raise ArgumentError(str(error)) from error
        self._optimizer = self._compile_config.get("optimizer") if model.compiled else None
        self._optimizers = _check_optimizers(optimizers, self._optimizer_name)
        if model.built and not keep_weights:
            _log_new_weights(model)

    def build(self, hp: Any, input_shapes: Any = None, input_dtypes: Any = None) -> keras.Model:
        """Build a compiled copy of the model for the hyperparameter values ``hp``.

        ``input_shapes`` (one row's shape per input) and ``input_dtypes`` are used only if the model
        does not define its inputs.
        """
        try:
            with dtype_policy_scope(self._model.dtype_policy):
                copy = self._copy(input_shapes, input_dtypes)
        except TypeError as error:
            if "Could not locate" in str(error):
                raise
            raise self._make_error(explain_rebuild_failure(self._model, error)) from error
        default = self._optimizer_name or self._optimizers[0]
        name = hp.Choice("optimizer", list(self._optimizers), default=default)
        low, high = self._learning_rates
        rate = low
        if low < high:
            default_rate = self._get_default_rate()
            rate = hp.Float("learning_rate", low, high, sampling="log", default=default_rate)
        size = 32 if 32 in self._batch_sizes else self._batch_sizes[0]
        hp.Choice("batch_size", list(self._batch_sizes), default=size)
        optimizer = self._make_optimizer(name, rate)
        copy.compile_from_config({**self._compile_config, "optimizer": optimizer})
        return copy

    def describe(self) -> Any:
        """Return a JSON-serializable description that must be unchanged when a run is resumed."""
        return {
            "fixed": compute_digest(self._model, self._get_initial_weights()),
            "keep_weights": self._keep_weights,
            "optimizers": list(self._optimizers),
            "optimizer": strip_names(self._optimizer),
        }

    @property
    def code(self) -> Any:
        """Always None: the model itself identifies the code of its custom layers."""
        return None

    @property
    def model(self) -> keras.Model:
        """The model as passed by the user."""
        return self._model

    def _copy(self, input_shapes: Any, input_dtypes: Any) -> keras.Model:
        model = self._model
        if not model.built:
            # Build a copy, so that the user's model remains unbuilt.
            model = type(model).from_config(_get_config(model))
            difference = describe_difference(self._model, model)
            if difference is not None:
                raise self._make_error(f"{difference}; write get_config()")
        original = inline_statistics(to_functional(model, input_shapes, input_dtypes))
        copy = keras.models.model_from_json(original.to_json())
        if self._keep_weights:
            copy.set_weights(original.get_weights())
            return copy
        kept = {id(variable) for variable in find_untrained_variables(original)}
        # Equal architectures list their weights in the same order.
        for variable, new in zip(original.weights, copy.weights, strict=True):
            if id(variable) in kept:
                new.assign(variable.numpy())
        return copy

    def _make_error(self, reason: str) -> ArgumentError:
        return ArgumentError(f"cannot rebuild the model {self._model.name!r}: {reason}")

    def _get_initial_weights(self) -> list[np.ndarray]:
        if self._keep_weights:
            weights: list[np.ndarray] = self._model.get_weights()
            return weights
        return [variable.numpy() for variable in find_untrained_variables(self._model)]

    @property
    def _optimizer_name(self) -> str | None:
        if self._optimizer is None:
            return None
        return str(_get_inner_optimizer(self._optimizer)["class_name"]).lower()

    def _make_optimizer(self, name: str, rate: float) -> Any:
        if name == self._optimizer_name and self._optimizer is not None:
            return _set_learning_rate(self._optimizer, rate)
        config = {"class_name": name, "config": {"learning_rate": rate}}
        return keras.saving.serialize_keras_object(keras.optimizers.get(config))

    def _get_default_rate(self) -> float:
        """Return the compiled learning rate (1e-3 if not a number), clipped to the bounds."""
        low, high = self._learning_rates
        rate = None
        if self._optimizer:
            rate = _get_inner_optimizer(self._optimizer)["config"].get("learning_rate")
        return float(min(max(rate if isinstance(rate, int | float) else 1e-3, low), high))


def find_untrained_variables(model: keras.Model) -> list[Any]:
    """Return the weights of frozen layers, which training does not change.

    The weights of ``Normalization`` layers are not included, nor are the statistics of batch or
    spectral normalization layers that are trainable.
    """
    changed = {
        id(variable)
        for layer in flatten_layers(model)
        if (isinstance(layer, _STATISTICS_LAYERS) and layer.trainable)
        or isinstance(layer, keras.layers.Normalization)
        for variable in layer.weights
    }
    return [v for v in model.weights if not v.trainable and id(v) not in changed]


def _log_new_weights(model: keras.Model) -> None:
    """Log that trials start from new weights, as a warning if the model seems pretrained."""
    if not model.trainable_variables:
        return
    kept = find_untrained_variables(model)
    fitted = model.compiled and int(model.optimizer.iterations) > 0
    logger.log(
        logging.WARNING if kept or fitted else logging.INFO,
        "trials of the model %r start from new weights%s; to start from its current weights, pass "
        "FixedModel(model, keep_weights=True)",
        model.name,
        ", but keep those of layers that are not trainable" if kept else "",
    )


def _get_inner_optimizer(optimizer: Any) -> Any:
    """Return the innermost optimizer configuration, without any wrapping loss scalers."""
    inner = optimizer["config"].get("inner_optimizer")
    return optimizer if inner is None else _get_inner_optimizer(inner)


def _set_learning_rate(optimizer: Any, rate: float) -> Any:
    config = dict(optimizer["config"])
    if config.get("inner_optimizer") is not None:
        config["inner_optimizer"] = _set_learning_rate(config["inner_optimizer"], rate)
    elif "learning_rate" in config:
        config["learning_rate"] = rate
    return {**optimizer, "config": config}


def compute_digest(model: keras.Model, weights: Iterable[np.ndarray]) -> str:
    """Return a hex SHA-256 digest of a model's architecture, ignoring names, and ``weights``."""

    def to_json(value: Any) -> Any:
        return value.tolist() if isinstance(value, np.ndarray | np.generic) else repr(value)

    text = json.dumps(strip_names(_get_config(model)), sort_keys=True, default=to_json)
    digest = hashlib.sha256(text.encode())
    for weight in weights:
        digest.update(np.ascontiguousarray(weight).tobytes())
    return digest.hexdigest()


def strip_names(node: Any) -> Any:
    """Return a configuration without the fields that differ between copies of a model."""
    if isinstance(node, dict):
        return {key: strip_names(value) for key, value in node.items() if key not in _NAME_FIELDS}
    if isinstance(node, list | tuple):
        return [strip_names(value) for value in node]
    return node


def _get_config(model: keras.Model) -> Any:
    try:
        return model.get_config()
    except NotImplementedError as error:
        raise ArgumentError(
            f"the model {type(model).__name__} has no get_config, so workers cannot rebuild it: "
            "write get_config() (and from_config, if its arguments are not plain values)"
        ) from error


def _make_compile_config(model: keras.Model, loss: Any, metrics: Any) -> dict[str, Any]:
    config = get_compile_config(model) if model.compiled else {}
    if loss is None and config.get("loss") is None:
        raise ArgumentError(
            f"the model {model.name!r} has no loss: compile it, or pass FixedModel(model, loss=...)"
        )
    arguments = {"loss": loss, "metrics": metrics}
    changes = {name: value for name, value in arguments.items() if value is not None}
    if not changes and config:
        return config
    for name in keras.tree.flatten(loss):
        if isinstance(name, str):
            try:
                keras.losses.get(name)
            except ValueError as error:
                raise ArgumentError(f"loss {name!r} is not a loss of Keras") from error
    # Compile a minimal model to serialize the loss and metrics as Keras does.
    minimal = keras.Sequential([keras.Input((1,))])
    try:
        minimal.compile(**changes)
        serialized = get_compile_config(minimal)
    except (ValueError, TypeError) as error:
        raise ArgumentError(f"cannot use loss={loss!r}, metrics={metrics!r}: {error}") from error
    return {**serialized, **config, **{name: serialized[name] for name in changes}}


def _check_learning_rates(value: Any) -> tuple[float, float]:
    bounds = value if isinstance(value, list | tuple) else (value, value)
    if len(bounds) != 2:
        raise ArgumentError(f"learning_rate must be (lowest, highest), but got {value!r}")
    low, high = (check_real("learning_rate", bound) for bound in bounds)
    if not 0 < low <= high:
        raise ArgumentError(
            f"learning_rate must be (lowest, highest), both more than 0, but got {value!r}"
        )
    return low, high


def _check_batch_sizes(value: Any) -> tuple[int, ...]:
    sizes = check_list("batch_sizes", value, "row counts")
    if not sizes:
        raise ArgumentError(f"batch_sizes must be a list of at least one size, but got {value!r}")
    return tuple(check_integer("batch_sizes: each", size, 1) for size in sizes)


def _check_optimizers(value: Any, compiled: str | None) -> tuple[str, ...]:
    for name in check_list("optimizers", value, "names"):
        try:
            keras.optimizers.get(name)
        except (ValueError, TypeError) as error:
            raise ArgumentError(
                f"optimizers has {name!r}, which is not an optimizer of Keras"
            ) from error
    names = [*([compiled] if compiled else []), *(str(name).lower() for name in value)]
    if not names:
        raise ArgumentError("optimizers must name at least one optimizer of Keras, but got none")
    return tuple(dict.fromkeys(names))
