"""Complete Cerebros networks: what is searched where the user gives only inputs and outputs."""

from __future__ import annotations

import functools
import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np

from cerebros_spark.core.errors import ArgumentError, TrialError
from cerebros_spark.training.keras.config_checks import check_no_lambda, check_same_settings
from cerebros_spark.training.keras.scopes import seeded_initializers
from cerebros_spark.training.keras.serialization import serialize_object
from nas.spaces.cerebros.hyperparameters import future_from, learning_rate
from nas.spaces.cerebros.layers import flat_inputs, unit_layers
from nas.spaces.cerebros.plan import Edge, NetworkFuture, OutputFuture, UnitFuture
from nas.spaces.cerebros.serialization import Frame, Written
from nas.spaces.cerebros.space import CerebrosSpace
from nas.spaces.functional import culprit, without_adapted
from nas.spaces.validation import check_activation, check_count

# A standard deviation below this share of the mean is rounding, in float32: the feature is
# constant, and to divide by it would turn the last bit into a large number.
_CONSTANT = 2e-7


@dataclass(frozen=True)
class Output:
    """One output of the networks and how it is trained.

    Attributes:
        name: Name of the output layer; it also starts the metric names where there are several
            outputs (``price_loss``).
        width: Number of output values.
        activation: Final activation, a name of Keras.
        loss: Keras loss: a name, a config, or an object, which is kept as its config.
        metrics: Keras metrics, in the same forms.
        mean: Mean of each value's labels over the training rows. With ``variance`` it stands
            behind the output as a layer without weights, so that the network itself learns
            values around 0 of size 1. Empty for none of it.
        variance: Variance of each value's labels.

    Raises:
        ArgumentError: A value can't be used, for example a function that Keras can't write down.
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
        object.__setattr__(self, "width", check_count("width", self.width))
        check_activation("activation", self.activation)
        if isinstance(self.metrics, str) or not isinstance(self.metrics, Sequence):
            raise ArgumentError(f"metrics must be a tuple of metrics, but got {self.metrics!r}")
        metrics = tuple(_identifier("metrics", metric) for metric in self.metrics)
        object.__setattr__(self, "metrics", metrics)
        object.__setattr__(self, "loss", _identifier("loss", self.loss))


class CerebrosNetworks:
    """Builds complete, compiled Cerebros networks from hyperparameter values.

    The models hold stock Keras layers only, so that Keras alone rebuilds them from
    ``model.to_json()`` and ``model.get_compile_config()``.

    Args:
        space: The bounds of the networks.
        input_shapes: Shape of one row of each model input, without the batch dimension.
        outputs: The model outputs.
        input_dtypes: Type of each input; ``"float32"`` for all by default.
        input_names: Names of the input layers; ``input_0``, ``input_1`` … by default.
        normalizations: For each input None, or the mean and the variance of its values over the
            training rows: one number, one for each place of the last axis, or one for each
            element. They become constants of a layer without weights. A feature that is constant
            is only centred.
        base_models: By input number, a model through which that input passes first (transfer
            learning). Each network gets a copy, with the weights it has now; layers that are not
            trainable stay so.
        optimizer: A name of Keras, which gets the learning rate of the space as hyperparameter
            ``learning_rate``; or an optimizer or its config, which keeps its own learning rate.
        seed: Seed of the wirings. Initial weights come from Keras' global seed, which the caller
            sets before each build.
        jit_compile: Passed on to ``model.compile``.
        loss_weights: What each output's loss counts in the sum of them; 1 by default.

    Raises:
        ArgumentError: The arguments don't fit together; the message names them.

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
        base_models: Mapping[int, keras.Model] | None = None,
        optimizer: Any = "adam",
        seed: int = 0,
        jit_compile: bool | str = "auto",
        loss_weights: Sequence[float] | None = None,
    ) -> None:
        count = len(input_shapes)
        self.space = space
        self.input_shapes = tuple(
            tuple(check_count(f"input_shapes[{i}]", size) for size in shape)
            for i, shape in enumerate(input_shapes)
        )
        self.outputs = tuple(outputs)
        self.input_dtypes = tuple(_each("input_dtypes", input_dtypes, ["float32"] * count))
        self.input_names = tuple(
            _each("input_names", input_names, [f"input_{i}" for i in range(count)])
        )
        self.seed = seed
        self._check_names()
        self._normalizations = [
            None if statistics is None else _statistics(i, self.input_shapes[i], statistics)
            for i, statistics in enumerate(_each("normalizations", normalizations, [None] * count))
        ]
        self._base_models = {
            number: _constant(number, base) for number, base in (base_models or {}).items()
        }
        self._optimizer = _identifier("optimizer", optimizer)
        self._jit_compile = jit_compile
        self._loss_weights = loss_weights
        self._frames: dict[tuple[str, str], Frame] = {}
        self.widths = [self._width(i) for i in range(count)]
        self._check_base_models(count)

    def future(self, hp: Any) -> NetworkFuture:
        """The plan of the network that the hyperparameter values stand for.

        Args:
            hp: A ``keras_tuner.HyperParameters``; what is missing in it is registered.
        """
        outputs = [OutputFuture(output.width, output.activation) for output in self.outputs]
        return future_from(hp, self.space, self.widths, outputs, self.seed)

    def build(self, hp: Any) -> keras.Model:
        """The compiled network that the hyperparameter values stand for.

        Args:
            hp: A ``keras_tuner.HyperParameters``; what is missing in it is registered.

        Returns:
            A model with one input and one output layer for each of those given. With one output
            its metrics have plain names (``loss``, ``accuracy``); with several they start with
            the name of the output.
        """
        inputs, flat = self._inputs()
        model = keras.Model(inputs, self._outputs(self.future(hp), flat, keras.layers))
        self._compile(model, self._make_optimizer(hp))
        return model

    def write(self, hp: Any, class_weight: Mapping[int, float] | None = None) -> Written | None:
        """The network that :meth:`build` would build, with the same weights, but only written down.

        That takes a sixth of the time.

        Args:
            hp: A ``keras_tuner.HyperParameters``; what is missing in it is registered.
            class_weight: What rows of a class count in training, as in ``keras.Model.fit``.

        Returns:
            The network; None if it must be built: with base models, with dropout, whose masks'
            seeds are part of its state, or in another precision than single or double.
        """
        future = self.future(hp)
        policy = keras.config.dtype_policy()
        if self._base_models or policy.name not in ("float32", "float64"):
            return None
        if future.regularization == "dropout":
            return None
        key = policy.name, json.dumps(class_weight, sort_keys=True)
        if key not in self._frames:
            with seeded_initializers(0):
                inputs, flat = self._inputs()
                ends = [OutputFuture(output.width, output.activation) for output in self.outputs]
                bare = _without_hidden(self.widths, ends)
                model = keras.Model(inputs, self._outputs(bare, flat, keras.layers))
                self._compile(model, self._make_optimizer(hp))
                self._frames[key] = Frame(model, flat, class_weight)
        frame = self._frames[key]
        recorder = frame.recorder()
        outputs = self._outputs(future, frame.inputs, recorder)
        return frame.written(recorder, outputs, self._make_optimizer(hp))

    def _inputs(self) -> tuple[list[Any], list[Any]]:
        """Keras' inputs, and what the units read of them."""
        inputs = [
            keras.Input(shape=shape, dtype=dtype, name=name)
            for shape, dtype, name in zip(
                self.input_shapes, self.input_dtypes, self.input_names, strict=True
            )
        ]
        tensors = [self._normalized(i, tensor) for i, tensor in enumerate(inputs)]
        bases = {i: _copy(base, f"input{i}_base") for i, base in self._base_models.items()}
        return inputs, flat_inputs(tensors, base_models=bases)

    def _outputs(self, future: NetworkFuture, flat: Sequence[Any], layers: Any) -> list[Any]:
        """The outputs of a network, made of layers of Keras' or of what stands in for them."""
        names = [
            f"{output.name}_standard" if output.mean else output.name for output in self.outputs
        ]
        return [
            _in_label_units(output, tensor, layers)
            for output, tensor in zip(
                self.outputs, unit_layers(future, flat, names, layers=layers), strict=True
            )
        ]

    def _compile(self, model: keras.Model, optimizer: Any) -> None:
        losses = {o.name: _made(keras.losses.get, o.loss) for o in self.outputs}
        metrics = {
            o.name: [_made(keras.metrics.get, metric) for metric in o.metrics] for o in self.outputs
        }
        weights = None
        if self._loss_weights is not None:
            weights = dict(zip(losses, self._loss_weights, strict=True))
        only = self.outputs[0].name if len(self.outputs) == 1 else None
        model.compile(
            optimizer=optimizer,
            # Plain values for a lone output: a dict would put its name into the metrics' names.
            loss=losses if only is None else losses[only],
            loss_weights=weights if only is None or weights is None else weights[only],
            metrics=metrics if only is None else metrics[only],
            jit_compile=self._jit_compile,
        )

    def _make_optimizer(self, hp: Any) -> Any:
        if not isinstance(self._optimizer, str):
            return _made(keras.optimizers.get, self._optimizer)
        return _optimizer_class(self._optimizer)(learning_rate=learning_rate(hp, self.space))

    def _normalized(self, number: int, tensor: Any) -> Any:
        statistics = self._normalizations[number]
        if statistics is None:
            return tensor
        mean, variance = statistics
        axis = tuple(range(-mean.ndim, 0)) if mean.ndim else None
        layer = keras.layers.Normalization(
            axis=axis,
            mean=mean,
            variance=variance,
            name=f"input{number}_normalization",
            dtype=keras.config.floatx(),  # a mean may be beyond half precision
        )
        return layer(tensor)

    def _width(self, number: int) -> int:
        if number not in self._base_models:
            return math.prod(self.input_shapes[number])
        # None where a model was never built.
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

    def _check_base_models(self, count: int) -> None:
        unknown = sorted(set(self._base_models) - set(range(count)))
        if unknown:
            raise ArgumentError(
                f"base_models names the inputs {unknown}, but there are {count} inputs"
            )


def _without_hidden(widths: Sequence[int], outputs: Sequence[OutputFuture]) -> NetworkFuture:
    """A plan whose outputs read the inputs."""
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


def _in_label_units(output: Output, tensor: Any, layers: Any) -> Any:
    """Brings an output that is around 0 and of size 1 to where the labels are."""
    if not output.mean:
        return tensor
    scale = [math.sqrt(variance) if variance > 0 else 1.0 for variance in output.variance]
    single = output.width == 1
    layer = layers.Rescaling(
        scale=scale[0] if single else scale,
        offset=output.mean[0] if single else list(output.mean),
        name=output.name,
        dtype=keras.config.floatx(),  # labels may be beyond half precision
    )
    return layer(tensor)


def _each(name: str, values: Sequence[Any] | None, default: list[Any]) -> list[Any]:
    if values is None:
        return default
    if len(values) != len(default):
        raise ArgumentError(
            f"{name} must hold one value for each of the {len(default)} inputs, but got {values!r}"
        )
    return list(values)


def _check_name(field: str, name: Any) -> None:
    # Keras refuses the slash in a layer's name, and only once the model is built.
    if not isinstance(name, str) or not name or "/" in name:
        raise ArgumentError(f"{field} must be a name without '/', but got {name!r}")


def _statistics(
    number: int, shape: tuple[int, ...], statistics: tuple[Any, Any]
) -> tuple[np.ndarray, np.ndarray]:
    mean, variance = (np.asarray(values, dtype="float64") for values in statistics)
    usable = np.isfinite(mean).all() and np.isfinite(variance).all() and (variance >= 0).all()
    if mean.size != variance.size or not usable:
        raise ArgumentError(
            f"normalizations[{number}] must be finite means and as many variances of at least 0, "
            f"but got (mean={mean!r}, variance={variance!r})"
        )
    target = _statistics_shape(number, shape, mean.size)
    constant = variance.ravel() <= np.square(mean.ravel() * _CONSTANT)
    variance = np.where(constant, 1.0, variance.ravel())
    return mean.reshape(target), variance.reshape(target)


def _statistics_shape(number: int, shape: tuple[int, ...], size: int) -> tuple[int, ...]:
    if size == math.prod(shape):
        return shape
    if shape and size == shape[-1]:
        return shape[-1:]
    if size == 1:
        return ()
    raise ArgumentError(
        f"normalizations[{number}] must hold 1, {shape[-1]} or {math.prod(shape)} means for an "
        f"input of shape {shape}, but got {size}"
    )


def _identifier(field: str, value: Any) -> Any:
    """A name or a config as it is, an object as its config, so that no two models share it."""
    if isinstance(value, (str, Mapping)):
        return value
    if value is None or isinstance(value, type):
        raise ArgumentError(f"{field} must be a Keras name, config or object, but got {value!r}")
    config = serialize_object(value)
    try:
        again = keras.saving.deserialize_keras_object(config)
    except (TypeError, ValueError) as error:
        raise ArgumentError(
            f"{field} must be something Keras can write down and read again: register it with "
            f"keras.saving.register_keras_serializable; got {value!r}"
        ) from error
    check_same_settings(value, again)
    return config


def _made(get: Callable[[Any], Any], identifier: Any) -> Any:
    """A new object for a config. A name stays: what "accuracy" means, compile finds out."""
    return identifier if isinstance(identifier, str) else get(dict(identifier))


@functools.cache
def _optimizer_class(name: str) -> Any:
    return type(keras.optimizers.get(name))


def _constant(number: int, base: keras.Model) -> keras.Model:
    """A base model without lambdas, whose adapted statistics are constants."""
    try:
        check_no_lambda(base.get_config())
        return without_adapted(base) if base.built else base
    except TrialError as error:
        raise ArgumentError(f"base_models[{number}] can't be used: {error}") from error
    except NotImplementedError as error:
        raise ArgumentError(
            f"base_models[{number}], {type(base).__name__}, has no get_config: write get_config() "
            "(and from_config, if its arguments are not plain values)"
        ) from error


def _copy(base: keras.Model, name: str) -> keras.Model:
    """A model of its own with the same weights, under a name that no other layer has."""
    try:
        copy = type(base).from_config({**base.get_config(), "name": name})
    except TypeError as error:
        if "Could not locate" in str(error):
            raise
        raise ArgumentError(
            f"the base model {base.name!r} can't be made again: {culprit(base, error)}"
        ) from error
    copy.set_weights(base.get_weights())
    return copy
