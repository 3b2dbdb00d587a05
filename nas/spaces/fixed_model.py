"""One architecture whose optimizer, learning rate and batch size are searched."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import keras
import numpy as np

from cerebros_spark.core.errors import ArgumentError, TrialError
from cerebros_spark.core.validation import check_real
from cerebros_spark.training.keras.config_checks import check_no_lambda
from cerebros_spark.training.keras.scopes import dtype_policy_scope
from cerebros_spark.training.keras.serialization import get_compile_config
from nas.spaces.functional import culprit, functional, unlike, without_adapted
from nas.spaces.validation import check_count

logger = logging.getLogger("nas")

# What changes with every model of a process, or follows from the rest.
_NAMES = frozenset(
    {"name", "keras_history", "input_layers", "output_layers", "compile_config", "build_config"}
)


# They update weights in training that no gradient reaches.
_KEEP_STATISTICS = (keras.layers.BatchNormalization, keras.layers.SpectralNormalization)


class FixedModel:
    """Searches how one model is best trained.

    Hyperparameters: ``optimizer``, ``learning_rate`` (drawn on a logarithmic scale) and
    ``batch_size``, which is the trial's, whatever ``fit`` is given. The optimizer that the model
    is compiled with is among the candidates, with all of its settings but the learning rate, and
    is the default. The model itself is not trained or changed.

    Args:
        model: A ``keras.Model``: functional, Sequential, or subclassed with ``get_config``. One
            without inputs gets those of the data.
        keep_weights: Begin every trial with all of the model's own weights (a pretrained model).
            By default layers that are not trainable keep theirs, and the others get new ones
            from the trial's seed; the log says so. Statistics that ``Normalization`` layers were
            adapted to are kept either way.
        learning_rate: Lowest and highest learning rate.
        optimizers: Names of Keras optimizers.
        batch_sizes: Rows in a training step.
        loss: Keras loss, instead of the one the model is compiled with.
        metrics: Keras metrics, instead of those the model is compiled with.

    Raises:
        ArgumentError: If an argument can't be used, or there is no loss.

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
        if not isinstance(keep_weights, bool):
            raise ArgumentError(f"keep_weights must be True or False, but got {keep_weights!r}")
        if keep_weights and not model.built:
            raise ArgumentError(
                f"keep_weights=True, but the model {model.name!r} is not built and has no weights"
            )
        self._model = model
        self._keep = keep_weights
        self._rates = _rates(learning_rate)
        self._sizes = _sizes(batch_sizes)
        self._compiled = _compiled(model, loss, metrics)
        _check_no_lambda(model, self._compiled)
        self._own = self._compiled.get("optimizer") if model.compiled else None
        self._optimizers = _optimizers(optimizers, self._own_name)
        if model.built and not keep_weights:
            _log_new_weights(model)

    def build(self, hp: Any, input_shapes: Any = None, input_dtypes: Any = None) -> keras.Model:
        """A new compiled copy of the model.

        Args:
            hp: A ``keras_tuner.HyperParameters``.
            input_shapes: Shape of one row of each input, for a model that doesn't know them.
            input_dtypes: Type of each input, likewise.
        """
        try:
            with dtype_policy_scope(self._model.dtype_policy):
                copy = self._copy(input_shapes, input_dtypes)
        except TypeError as error:
            if "Could not locate" in str(error):
                raise
            raise ArgumentError(
                f"the model {self._model.name!r} can't be made again: {culprit(self._model, error)}"
            ) from error
        default = self._own_name or self._optimizers[0]
        name = hp.Choice("optimizer", list(self._optimizers), default=default)
        low, high = self._rates
        rate = low
        if low < high:
            rate = hp.Float("learning_rate", low, high, sampling="log", default=self._default())
        size = 32 if 32 in self._sizes else self._sizes[0]
        hp.Choice("batch_size", list(self._sizes), default=size)
        copy.compile_from_config({**self._compiled, "optimizer": self._optimizer(name, rate)})
        return copy

    def describe(self) -> Any:
        """What tells it from another, as JSON."""
        return {
            "fixed": digest(self._model, self._kept_weights()),
            "keep_weights": self._keep,
            "optimizers": list(self._optimizers),
            "optimizer": without_names(self._own),
        }

    @property
    def code(self) -> Any:
        """Nothing: the code of custom layers is identified with the network."""
        return None

    @property
    def model(self) -> keras.Model:
        """The model, as its user made it."""
        return self._model

    def _copy(self, input_shapes: Any, input_dtypes: Any) -> keras.Model:
        model = self._model
        if not model.built:
            # The user's own stays unbuilt.
            model = type(model).from_config(_config(model))
            lost = unlike(self._model, model)
            if lost is not None:
                raise ArgumentError(
                    f"the model {self._model.name!r} can't be made again: {lost}; write "
                    "get_config()"
                )
        whole = without_adapted(functional(model, input_shapes, input_dtypes))
        copy = keras.models.model_from_json(whole.to_json())
        if self._keep:
            copy.set_weights(whole.get_weights())
            return copy
        kept = {id(variable) for variable in untrained_variables(whole)}
        # The same architecture, so the same order.
        for mine, new in zip(whole.weights, copy.weights, strict=True):
            if id(mine) in kept:
                new.assign(mine.numpy())
        return copy

    def _kept_weights(self) -> list[np.ndarray]:
        """The weights with which every trial begins."""
        if self._keep:
            weights: list[np.ndarray] = self._model.get_weights()
            return weights
        return [variable.numpy() for variable in untrained_variables(self._model)]

    @property
    def _own_name(self) -> str | None:
        return None if self._own is None else str(_innermost(self._own)["class_name"]).lower()

    def _optimizer(self, name: str, rate: float) -> Any:
        if name == self._own_name and self._own is not None:
            return _at_rate(self._own, rate)
        made = keras.optimizers.get({"class_name": name, "config": {"learning_rate": rate}})
        return keras.saving.serialize_keras_object(made)

    def _default(self) -> float:
        """The model's own learning rate, where it is one number within the bounds."""
        low, high = self._rates
        own = _innermost(self._own)["config"].get("learning_rate") if self._own else None
        if not isinstance(own, int | float):
            own = 1e-3
        return float(min(max(own, low), high))


def untrained_variables(model: keras.Model) -> list[Any]:
    """Return the weights of a model that training leaves as they are: those of frozen layers.

    The statistics of batch normalization that is trained belong to the weights that are trained.
    """
    statistics = {
        id(variable)
        for layer in model._flatten_layers()
        if isinstance(layer, _KEEP_STATISTICS) and layer.trainable
        for variable in layer.weights
    }
    adapted = {
        id(variable)
        for layer in model._flatten_layers()
        if isinstance(layer, keras.layers.Normalization)
        for variable in layer.weights
    }
    return [
        variable
        for variable in model.weights
        if not variable.trainable and id(variable) not in statistics | adapted
    ]


def _check_no_lambda(model: keras.Model, compiled: Mapping[str, Any]) -> None:
    try:
        check_no_lambda([_config(model), compiled])
    except TrialError as error:
        raise ArgumentError(str(error)) from error


def _log_new_weights(model: keras.Model) -> None:
    """Log which weights trials start from, as a warning where the model seems to be pretrained."""
    if not model.trainable_variables:
        return
    kept = untrained_variables(model)
    fitted = model.compiled and int(model.optimizer.iterations) > 0
    logger.log(
        logging.WARNING if kept or fitted else logging.INFO,
        "trials of the model %r start from new weights%s; to start from all of its own weights, "
        "give FixedModel(model, keep_weights=True)",
        model.name,
        ", but keep those of layers that are not trainable" if kept else "",
    )


def _innermost(optimizer: Any) -> Any:
    """An optimizer's configuration without what scales its loss."""
    inner = optimizer["config"].get("inner_optimizer")
    return optimizer if inner is None else _innermost(inner)


def _at_rate(optimizer: Any, rate: float) -> Any:
    """An optimizer's configuration with another learning rate."""
    config = dict(optimizer["config"])
    if config.get("inner_optimizer") is not None:
        config["inner_optimizer"] = _at_rate(config["inner_optimizer"], rate)
    elif "learning_rate" in config:
        config["learning_rate"] = rate
    return {**optimizer, "config": config}


def digest(model: keras.Model, weights: Iterable[np.ndarray]) -> str:
    """Return a digest of a model's architecture, without the names of layers, and of weights."""
    text = json.dumps(without_names(_config(model)), sort_keys=True, default=_written)
    found = hashlib.sha256(text.encode())
    for weight in weights:
        found.update(np.ascontiguousarray(weight).tobytes())
    return found.hexdigest()


def _written(value: Any) -> Any:
    return value.tolist() if isinstance(value, np.ndarray | np.generic) else repr(value)


def without_names(node: Any) -> Any:
    """Return a configuration without what changes with every model of a process."""
    if isinstance(node, dict):
        return {key: without_names(value) for key, value in node.items() if key not in _NAMES}
    if isinstance(node, list | tuple):
        return [without_names(value) for value in node]
    return node


def _config(model: keras.Model) -> Any:
    try:
        return model.get_config()
    except NotImplementedError as error:
        raise ArgumentError(
            f"the model {type(model).__name__} has no get_config, so workers can't make it again: "
            "write get_config() (and from_config, if its arguments are not plain values)"
        ) from error


def _compiled(model: keras.Model, loss: Any, metrics: Any) -> dict[str, Any]:
    config = get_compile_config(model) if model.compiled else {}
    if loss is None and config.get("loss") is None:
        raise ArgumentError(
            f"the model {model.name!r} has no loss: compile it, or give FixedModel(model, loss=...)"
        )
    given = {
        name: value for name, value in (("loss", loss), ("metrics", metrics)) if value is not None
    }
    if not given and config:
        return config
    for name in keras.tree.flatten(loss):
        if isinstance(name, str):
            try:
                keras.losses.get(name)
            except ValueError as error:
                raise ArgumentError(f"loss {name!r} is not a loss of Keras") from error
    # A model without a body writes what Keras makes of them.
    blank = keras.Sequential([keras.Input((1,))])
    try:
        blank.compile(**given)
        told = get_compile_config(blank)
    except (ValueError, TypeError) as error:
        raise ArgumentError(
            f"Keras can't use loss={loss!r}, metrics={metrics!r}: {error}"
        ) from error
    return {**told, **config, **{name: told[name] for name in given}}


def _rates(given: Any) -> tuple[float, float]:
    values = given if isinstance(given, list | tuple) else (given, given)
    if len(values) != 2:
        raise ArgumentError(f"learning_rate must be (lowest, highest), but got {given!r}")
    low, high = (check_real("learning_rate", value) for value in values)
    if not 0 < low <= high:
        raise ArgumentError(
            f"learning_rate must be (lowest, highest), both more than 0, but got {given!r}"
        )
    return low, high


def _sizes(given: Any) -> tuple[int, ...]:
    if isinstance(given, str) or not isinstance(given, Sequence) or not given:
        raise ArgumentError(f"batch_sizes must be a list of numbers of rows, but got {given!r}")
    return tuple(check_count("batch_sizes: each", size) for size in given)


def _optimizers(given: Any, own: str | None) -> tuple[str, ...]:
    if isinstance(given, str) or not isinstance(given, Sequence):
        raise ArgumentError(f"optimizers must be a list of names, but got {given!r}")
    for name in given:
        try:
            keras.optimizers.get(name)
        except (ValueError, TypeError) as error:
            raise ArgumentError(
                f"optimizers has {name!r}, which is no optimizer of Keras"
            ) from error
    names = [*([own] if own else []), *(str(name).lower() for name in given)]
    if not names:
        raise ArgumentError("optimizers must name at least one optimizer of Keras, but got none")
    return tuple(dict.fromkeys(names))
