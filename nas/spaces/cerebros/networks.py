"""Complete, compiled Cerebros networks, the default search space for arrays."""

from __future__ import annotations

import functools
import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np

from cerebros_spark.core.errors import ArgumentError, TrialError
from cerebros_spark.core.seeding import derive_seed
from cerebros_spark.core.validation import check_integer
from cerebros_spark.data.table.schema import MatrixLayout
from cerebros_spark.training.keras.config_checks import check_no_lambda, check_same_settings
from cerebros_spark.training.keras.schedules import WarmCosine
from cerebros_spark.training.keras.scopes import seeded_initializers
from cerebros_spark.training.keras.serialization import serialize_object
from nas.metrics.losses import get_loss_name
from nas.spaces.base import SerializedNetwork, Space
from nas.spaces.cerebros.hyperparameters import plan_network, read_learning_rate
from nas.spaces.cerebros.layers import build_units, check_base_models, flatten_inputs
from nas.spaces.cerebros.moiety import draw_moiety
from nas.spaces.cerebros.plan import Edge, NetworkFuture, OutputFuture, UnitFuture
from nas.spaces.cerebros.serialization import NetworkTemplate
from nas.spaces.cerebros.space import CerebrosSpace
from nas.spaces.cerebros.wiring import draw_future
from nas.spaces.front import embed_codes, get_width
from nas.spaces.functional import explain_rebuild_failure, inline_statistics
from nas.spaces.validation import check_activation, check_list

# A standard deviation below this fraction of the mean is float32 rounding: the feature is constant,
# and division by the deviation would turn the rounding error into a large number.
_CONSTANT = 2e-7

# Share of the steps in which a scheduled learning rate rises.
_WARM_UP = 0.05


@dataclass(frozen=True)
class Output:
    """Output of the networks, with its training settings.

    Attributes:
        name: Name of the output layer. If there are several outputs, it is also the prefix of
            metric names (``price_loss``).
        width: Number of output values per row.
        activation: Name of the final Keras activation.
        loss: Keras loss: a name, a config, or an object, which is stored as its config.
        metrics: Keras metrics, each as a name, a config, or an object, which is stored as its
            config.
        mean: For each output value, the labels' mean over the training rows. If given with
            ``variance``, a weightless layer after the output rescales it to the labels' mean and
            variance, so the network itself learns standardized values. If empty, the layer is
            omitted.
        variance: For each output value, the labels' variance over the training rows; empty if
            ``mean`` is.

    Raises:
        ArgumentError: If a value is invalid, such as a function that Keras cannot serialize.
    """

    name: str
    width: int
    activation: str = "linear"
    loss: Any = "mean_squared_error"
    metrics: tuple[Any, ...] = ()
    mean: tuple[float, ...] = ()
    variance: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        _check_name("name", self.name)
        if {len(self.mean), len(self.variance)} not in ({0}, {self.width}):
            raise ArgumentError(
                f"mean and variance must hold {self.width} values or none, but got "
                f"(mean={self.mean!r}, variance={self.variance!r})"
            )
        object.__setattr__(self, "width", check_integer("width", self.width, 1))
        check_activation("activation", self.activation)
        metrics = check_list("metrics", self.metrics, "metrics")
        metrics = tuple(_to_identifier("metrics", metric) for metric in metrics)
        object.__setattr__(self, "metrics", metrics)
        object.__setattr__(self, "loss", _to_identifier("loss", self.loss))


class CerebrosNetworks(Space):
    """Search space of complete, compiled Cerebros networks.

    Apart from base models, the networks contain only built-in Keras layers, so ``model.to_json()``
    and ``model.get_compile_config()`` are enough to rebuild them.

    Args:
        space: Bounds of the networks.
        input_shapes: Shape of one row of each model input, without the batch dimension.
        outputs: Outputs of the networks.
        input_dtypes: Dtype of each input; if None, all are ``"float32"``.
        input_names: Names of the input layers; if None, ``input_0``, ``input_1`` and so on.
        normalizations: For each input, the mean and variance of its values over the training rows;
            None if an input is not normalized. If the argument itself is None, no input is
            normalized. Each is a scalar, an array with one value per index of the last axis, or an
            array with one value per element. They become constants of a layer without weights. A
            constant feature is only centered.
        fronts: Layout of each input if the inputs are matrices of raw tables, whose category codes
            are embedded before the network. None if the inputs are not raw tables.
        base_models: Models applied to inputs before the network (transfer learning), by input
            index. Each network gets a copy with the current weights; frozen layers stay frozen.
            None if there are no base models.
        optimizer: Name of a Keras optimizer, whose learning rate is the hyperparameter
            ``learning_rate``; or an optimizer or its config, which keeps its learning rate.
        count_steps: Function that returns a trial's number of training steps, for the
            learning-rate schedule, given its batch size (if None, the search's batch size). If
            ``count_steps`` is None, learning rates are constant.
        seed: Seed for wiring the networks. Initial weights come from Keras' global seed, which the
            caller sets before each build.
        jit_compile: As in ``keras.Model.compile``.
        loss_weights: Weight of each output's loss in the total loss; if None, all are 1.

    Raises:
        ArgumentError: If an argument is invalid, or the arguments are inconsistent.

    Example:
        >>> networks = CerebrosNetworks(CerebrosSpace(), [(38,)], [Output("price", 1)])
        >>> model = networks.build(keras_tuner.HyperParameters())
    """

    def __init__(
        self,
        space: CerebrosSpace,
        input_shapes: Sequence[Sequence[int]],
        outputs: Sequence[Output],
        *,
        input_dtypes: Sequence[str] | None = None,
        input_names: Sequence[str] | None = None,
        normalizations: Sequence[tuple[Any, Any] | None] | None = None,
        fronts: Sequence[MatrixLayout] | None = None,
        base_models: Mapping[int, keras.Model] | None = None,
        optimizer: Any = "adam",
        count_steps: Callable[[int | None], int] | None = None,
        seed: int = 0,
        jit_compile: bool | str = "auto",
        loss_weights: Sequence[float] | None = None,
    ) -> None:
        count = len(input_shapes)
        self.space = space
        self.input_shapes = tuple(
            tuple(check_integer(f"input_shapes[{i}]", size, 1) for size in shape)
            for i, shape in enumerate(input_shapes)
        )
        self.outputs = tuple(outputs)
        self.input_dtypes = _one_per_input("input_dtypes", input_dtypes, ["float32"] * count)
        default_names = [f"input_{i}" for i in range(count)]
        self.input_names = _one_per_input("input_names", input_names, default_names)
        self.seed = seed
        self._check_names()
        self._normalizations = [
            None if statistics is None else _check_statistics(i, self.input_shapes[i], statistics)
            for i, statistics in enumerate(
                _one_per_input("normalizations", normalizations, [None] * count)
            )
        ]
        self._base_models = {
            number: _prepare_base_model(number, base)
            for number, base in (base_models or {}).items()
        }
        self._fronts = None if fronts is None else tuple(fronts)
        self._optimizer = _to_identifier("optimizer", optimizer)
        self._count_steps = count_steps
        self._jit_compile = jit_compile
        self._loss_weights = loss_weights
        self._templates: dict[tuple[str, str], NetworkTemplate] = {}
        self.widths = [self._get_width(i) for i in range(count)]
        self._output_plans = [OutputFuture(o.width, o.activation) for o in self.outputs]
        check_base_models(self._base_models, count)

    def plan(self, hp: Any) -> NetworkFuture:
        """Return the plan of the network that hyperparameter values define."""
        return plan_network(hp, self.space, self.widths, self._output_plans, self.seed)

    def sample_plans(self, count: int) -> Iterator[NetworkFuture]:
        """Yield the plans of ``count`` random networks; equal seeds give equal plans."""
        for number in range(count):
            seed = derive_seed(self.seed, "shape", number)
            moiety = draw_moiety(self.space, seed)
            yield draw_future(self.space, moiety, self.widths, self._output_plans, seed)

    @property
    def gradient_scale(self) -> float:
        """Factor that makes the loss's gradient independent of the label's unit of measurement.

        It is 1 unless the inputs are raw tables and the single output is a regression.
        """
        if self._fronts is None or len(self.outputs) > 1 or not self.outputs[0].variance:
            return 1.0
        variance = float(np.mean(self.outputs[0].variance))
        if not 0 < variance < math.inf:
            return 1.0
        loss = _make(keras.losses.get, self.outputs[0].loss)
        squared = get_loss_name(loss) == "meansquarederror"
        return 1 / variance if squared else 1 / math.sqrt(variance)

    def build(self, hp: Any) -> keras.Model:
        """Build the compiled network that hyperparameter values define.

        If there is one output, metrics have plain names (``loss``, ``accuracy``). If there are
        several, metric names start with the output's name.
        """
        return self._build(self.plan(hp), hp)[0]

    def serialize(
        self, hp: Any, class_weight: Mapping[int, float] | None = None
    ) -> SerializedNetwork | None:
        """Serialize the network that :meth:`build` returns, in a sixth of the time of building it.

        Return None if the network must be built: if it has base models, dropout (whose seeds are
        part of its state) or embeddings, or if it uses neither single nor double precision.
        """
        future = self.plan(hp)
        policy = keras.config.dtype_policy()
        if self._base_models or policy.name not in ("float32", "float64"):
            return None
        if any(front.codes for front in self._fronts or ()):
            return None
        if future.regularization == "dropout":
            return None
        key = policy.name, json.dumps(class_weight, sort_keys=True)
        if key not in self._templates:
            with seeded_initializers(0):
                model, flat = self._build(_plan_without_hidden(self.widths, self._output_plans), hp)
                self._templates[key] = NetworkTemplate(model, flat, class_weight)
        template = self._templates[key]
        recorder = template.make_recorder()
        outputs = self._build_outputs(future, template.inputs, recorder)
        return template.serialize(recorder, outputs, self._make_optimizer(hp))

    def _build(self, future: NetworkFuture, hp: Any) -> tuple[keras.Model, list[Any]]:
        """Build a plan's compiled network; return it and the flat inputs that its units read."""
        inputs = [
            keras.Input(shape=shape, dtype=dtype, name=name)
            for shape, dtype, name in zip(
                self.input_shapes, self.input_dtypes, self.input_names, strict=True
            )
        ]
        flat = self._flatten(inputs)
        model = keras.Model(inputs, self._build_outputs(future, flat, keras.layers))
        self._compile(model, self._make_optimizer(hp))
        return model, flat

    def build_heads(self, future: NetworkFuture, inputs: Sequence[Any]) -> list[Any]:
        """Build a plan's network on the model's input tensors, and return its output tensors."""
        return self._build_outputs(future, self._flatten(inputs), keras.layers)

    def _flatten(self, inputs: Sequence[Any]) -> list[Any]:
        """Normalize, embed and flatten the inputs; return the flat tensors that units read."""
        tensors = [self._normalize(i, tensor) for i, tensor in enumerate(inputs)]
        if self._fronts is not None:
            tensors = [
                embed_codes(tensor, front, f"input{i}")
                for i, (tensor, front) in enumerate(zip(tensors, self._fronts, strict=True))
            ]
        bases = {i: _copy_model(base, f"input{i}_base") for i, base in self._base_models.items()}
        return list(flatten_inputs(tensors, base_models=bases))

    def _build_outputs(self, future: NetworkFuture, flat: Sequence[Any], layers: Any) -> list[Any]:
        """Build a network's outputs with the layer classes of ``layers``."""
        names = [
            f"{output.name}_standard" if output.mean else output.name for output in self.outputs
        ]
        tensors = build_units(future, flat, names, layers=layers)
        return [
            _scale_to_labels(output, tensor, layers)
            for output, tensor in zip(self.outputs, tensors, strict=True)
        ]

    def _compile(self, model: keras.Model, optimizer: Any) -> None:
        model.compile(optimizer=optimizer, jit_compile=self._jit_compile, **self.make_scoring())

    def make_scoring(self) -> dict[str, Any]:
        """Return the arguments of ``keras.Model.compile`` for losses, loss weights and metrics."""
        losses = {o.name: _make(keras.losses.get, o.loss) for o in self.outputs}
        metrics = {
            o.name: [_make(keras.metrics.get, metric) for metric in o.metrics] for o in self.outputs
        }
        weights = None
        if self._loss_weights is not None:
            weights = dict(zip(losses, self._loss_weights, strict=True))
        only = self.outputs[0].name if len(self.outputs) == 1 else None
        # No dict for a single output: its name would become part of the metric names.
        return {
            "loss": losses if only is None else losses[only],
            "loss_weights": weights if only is None or weights is None else weights[only],
            "metrics": metrics if only is None else metrics[only],
        }

    def _make_optimizer(self, hp: Any) -> Any:
        if not isinstance(self._optimizer, str):
            return _make(keras.optimizers.get, self._optimizer)
        rate: Any = read_learning_rate(hp, self.space)
        if self._count_steps is not None and self.space.learning_rate_schedule == "cosine":
            steps = self._count_steps(hp.values.get("batch_size"))
            rate = WarmCosine(rate, steps, _WARM_UP)
        return _get_optimizer_class(self._optimizer)(learning_rate=rate)

    def _normalize(self, number: int, tensor: Any) -> Any:
        statistics = self._normalizations[number]
        if statistics is None:
            return tensor
        mean, variance = statistics
        layer = keras.layers.Normalization(
            axis=tuple(range(-mean.ndim, 0)) if mean.ndim else None,
            mean=mean,
            variance=variance,
            name=f"input{number}_normalization",
            dtype=keras.config.floatx(),  # a mean may exceed the range of half precision
        )
        return layer(tensor)

    def _get_width(self, number: int) -> int:
        if self._fronts is not None:
            return get_width(self._fronts[number])
        if number not in self._base_models:
            return math.prod(self.input_shapes[number])
        # A model that was never built has no output shape.
        shape = getattr(self._base_models[number], "output_shape", None)
        if not isinstance(shape, tuple) or not all(isinstance(n, int) for n in shape[1:]):
            raise ArgumentError(
                f"base_models[{number}] must be built and have one output of known size, but its "
                f"output shape is {shape!r}"
            )
        return math.prod(shape[1:])

    def _check_names(self) -> None:
        if not self.input_shapes or not self.outputs:
            raise ArgumentError(
                f"a network needs an input and an output, but got (input_shapes="
                f"{self.input_shapes!r}, outputs={self.outputs!r})"
            )
        names = [*self.input_names, *(output.name for output in self.outputs)]
        for name in self.input_names:
            _check_name("input_names", name)
        if len(set(names)) < len(names):
            raise ArgumentError(f"inputs and outputs must have different names, but got {names}")


def _plan_without_hidden(widths: Sequence[int], outputs: Sequence[OutputFuture]) -> NetworkFuture:
    edges = tuple(Edge(0, number) for number in range(len(widths)))
    return NetworkFuture(
        levels=(
            tuple(UnitFuture(0, number, "input", width) for number, width in enumerate(widths)),
            tuple(
                UnitFuture(1, number, "output", output.width or 1, 0, output.activation, edges)
                for number, output in enumerate(outputs)
            ),
        ),
        maximum_skip_connection_depth=1,
    )


def _scale_to_labels(output: Output, tensor: Any, layers: Any) -> Any:
    """Rescale a standardized output to the labels' mean and variance, if these are given."""
    if not output.mean:
        return tensor
    scale = [math.sqrt(variance) if variance > 0 else 1.0 for variance in output.variance]
    single = output.width == 1
    layer = layers.Rescaling(
        scale=scale[0] if single else scale,
        offset=output.mean[0] if single else list(output.mean),
        name=output.name,
        dtype=keras.config.floatx(),  # labels may exceed the range of half precision
    )
    return layer(tensor)


def _one_per_input(name: str, values: Sequence[Any] | None, default: list[Any]) -> tuple[Any, ...]:
    if values is not None and len(values) != len(default):
        raise ArgumentError(
            f"{name} must hold one value for each of the {len(default)} inputs, but got {values!r}"
        )
    return tuple(default if values is None else values)


def _check_name(field: str, name: Any) -> None:
    # Keras rejects a slash in a layer name, but only when it builds the model.
    if not isinstance(name, str) or not name or "/" in name:
        raise ArgumentError(f"{field} must be a name without '/', but got {name!r}")


def _check_statistics(
    number: int, shape: tuple[int, ...], statistics: tuple[Any, Any]
) -> tuple[np.ndarray, np.ndarray]:
    """Check mean and variance, reshape them for the input, and set variances of about 0 to 1."""
    mean, variance = (np.asarray(values, dtype="float64") for values in statistics)
    valid = np.isfinite(mean).all() and np.isfinite(variance).all() and (variance >= 0).all()
    if mean.size != variance.size or not valid:
        raise ArgumentError(
            f"normalizations[{number}] must be finite means and as many variances of at least 0, "
            f"but got (mean={mean!r}, variance={variance!r})"
        )
    if mean.size == math.prod(shape):
        target = shape
    elif shape and mean.size == shape[-1]:
        target = shape[-1:]
    elif mean.size == 1:
        target = ()
    else:
        raise ArgumentError(
            f"normalizations[{number}] must hold 1, {shape[-1]} or {math.prod(shape)} means for an "
            f"input of shape {shape}, but got {mean.size}"
        )
    constant = variance.ravel() <= np.square(mean.ravel() * _CONSTANT)
    variance = np.where(constant, 1.0, variance.ravel())
    return mean.reshape(target), variance.reshape(target)


def _to_identifier(field: str, value: Any) -> Any:
    """Convert an object, which models cannot share, to its config; keep a name or a config."""
    if isinstance(value, str | Mapping):
        return value
    if value is None or isinstance(value, type):
        raise ArgumentError(f"{field} must be a Keras name, config or object, but got {value!r}")
    config = serialize_object(value)
    try:
        copy = keras.saving.deserialize_keras_object(config)
    except (TypeError, ValueError) as error:
        raise ArgumentError(
            f"cannot serialize {field}: {value!r} is not registered; decorate it with "
            "keras.saving.register_keras_serializable"
        ) from error
    check_same_settings(value, copy)
    return config


def _make(get: Callable[[Any], Any], identifier: Any) -> Any:
    """Make a new object from a config; return a name unchanged, because ``compile`` resolves it."""
    return identifier if isinstance(identifier, str) else get(dict(identifier))


@functools.cache
def _get_optimizer_class(name: str) -> Any:
    return type(keras.optimizers.get(name))


def _prepare_base_model(number: int, base: keras.Model) -> keras.Model:
    """Return a base model with adapted statistics as constants; raise ArgumentError for lambdas."""
    try:
        check_no_lambda(base.get_config())
        return inline_statistics(base) if base.built else base
    except TrialError as error:
        raise ArgumentError(f"cannot use base_models[{number}]: {error}") from error
    except NotImplementedError as error:
        raise ArgumentError(
            f"base_models[{number}], {type(base).__name__}, has no get_config: write get_config() "
            "(and from_config, if its arguments are not plain values)"
        ) from error


def _copy_model(base: keras.Model, name: str) -> keras.Model:
    try:
        copy = type(base).from_config({**base.get_config(), "name": name})
    except TypeError as error:
        if "Could not locate" in str(error):
            raise
        raise ArgumentError(
            f"cannot copy the base model {base.name!r}: {explain_rebuild_failure(base, error)}"
        ) from error
    copy.set_weights(base.get_weights())
    return copy
