"""Small settings drawn at random: data, a network, how it is compiled and what ``fit`` is given."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import keras
import numpy as np

from cerebros_spark.core.seeding import derive_seed

SEED = 20
_REGULARIZERS = [None, None, None, "l2", {"class_name": "L1", "config": {"l1": 0.01}}]
INPUT_TYPES = ("float32", "float64", "int64", "int32", "uint8", "bool")
ACTIVATIONS = ("elu", "tanh", "sigmoid", "gelu", "softplus")

Draw = np.random.Generator
Losses = dict[str, Callable[[], Any]]

# For each kind of output: how its labels look, how it is activated, losses and metrics.
_REGRESSION_LOSSES: Losses = {
    "mse": lambda: "mse",
    "mean_absolute_error": lambda: keras.losses.mean_absolute_error,
    "huber": lambda: keras.losses.Huber(0.7),
    "log_cosh": lambda: "log_cosh",
    "summed squares": lambda: keras.losses.MeanSquaredError(reduction="sum"),
    "mean with sample weight": lambda: keras.losses.MeanSquaredError(
        reduction="mean_with_sample_weight"
    ),
}
_REGRESSION_METRICS: Losses = {
    "mae": lambda: "mae",
    "rmse": lambda: keras.metrics.RootMeanSquaredError(name="rmse"),
    "r2": lambda: keras.metrics.R2Score(name="r2"),
    "mape": lambda: "mape",
    "cosine": lambda: keras.metrics.CosineSimilarity(name="cosine"),
    "log_cosh": lambda: keras.metrics.LogCoshError(name="log_cosh"),
    "mean squares": lambda: keras.metrics.mean_squared_error,
}
_BINARY_LOSSES: Losses = {
    "binary_crossentropy": lambda: "binary_crossentropy",
    "smoothed": lambda: keras.losses.BinaryCrossentropy(label_smoothing=0.1),
    "focal": lambda: keras.losses.BinaryFocalCrossentropy(apply_class_balancing=True),
    "mse": lambda: "mse",
    "hinge": lambda: "hinge",
}
_BINARY_METRICS: Losses = {
    "accuracy": lambda: "accuracy",
    "at 0.4": lambda: keras.metrics.BinaryAccuracy(name="at", threshold=0.4),
    "auc": lambda: keras.metrics.AUC(name="auc"),
    "pr": lambda: keras.metrics.AUC(name="pr", curve="PR", num_thresholds=50),
    "precision": lambda: keras.metrics.Precision(name="precision"),
    "recall": lambda: keras.metrics.Recall(name="recall", thresholds=0.45),
    "false negatives": lambda: keras.metrics.FalseNegatives(name="missed"),
    "iou": lambda: keras.metrics.BinaryIoU(name="iou"),
    "at recall": lambda: keras.metrics.PrecisionAtRecall(0.6, name="at_recall"),
}
_CLASSES_METRICS: Losses = {
    "accuracy": lambda: "accuracy",
    "acc": lambda: "acc",
    "top 2": lambda: keras.metrics.SparseTopKCategoricalAccuracy(2, name="top"),
    "crossentropy": lambda: "sparse_categorical_crossentropy",
}
_ONE_HOT_LOSSES: Losses = {
    "categorical_crossentropy": lambda: "categorical_crossentropy",
    "smoothed": lambda: keras.losses.CategoricalCrossentropy(label_smoothing=0.1),
    "kl_divergence": lambda: "kl_divergence",
    "focal": lambda: keras.losses.CategoricalFocalCrossentropy(),
}
_ONE_HOT_METRICS: Losses = {
    "accuracy": lambda: "accuracy",
    "top 2": lambda: keras.metrics.TopKCategoricalAccuracy(2, name="top"),
    "auc": lambda: keras.metrics.AUC(name="auc", multi_label=True),
    "f1": lambda: keras.metrics.F1Score(average="macro", name="f1"),
    "crossentropy": lambda: keras.metrics.CategoricalCrossentropy(name="entropy"),
}
# What each kind is: losses, metrics, activation, dtypes that its labels may have.
KINDS: dict[str, tuple[Losses, Losses, str, tuple[str, ...]]] = {
    "regression": (
        _REGRESSION_LOSSES, _REGRESSION_METRICS, "linear", ("float32", "float64", "int64")
    ),
    "counts": ({"poisson": lambda: "poisson"}, _REGRESSION_METRICS, "softplus", ("int64", "uint8")),
    "binary": (
        _BINARY_LOSSES, _BINARY_METRICS, "sigmoid", ("int64", "float32", "bool", "uint8")
    ),
    "logits": (
        {"from logits": lambda: keras.losses.BinaryCrossentropy(from_logits=True)},
        {"at 0": lambda: keras.metrics.BinaryAccuracy(name="at", threshold=0.0)},
        "linear", ("int64", "bool"),
    ),
    "classes": (
        {
            "sparse": lambda: "sparse_categorical_crossentropy",
            "object": lambda: keras.losses.SparseCategoricalCrossentropy(),
        },
        _CLASSES_METRICS, "softmax", ("int64", "int32", "uint8"),
    ),
    "one-hot": (_ONE_HOT_LOSSES, _ONE_HOT_METRICS, "softmax", ("float32", "int64")),
}  # fmt: skip


def _schedule(draw: Draw) -> Any:
    schedules = keras.optimizers.schedules
    return _one(
        draw,
        [
            0.01,
            0.03,
            schedules.ExponentialDecay(0.03, 2, 0.7),
            schedules.CosineDecay(0.03, 5, warmup_steps=2, warmup_target=0.05),
            schedules.PiecewiseConstantDecay([1, 3], [0.04, 0.02, 0.01]),
            schedules.InverseTimeDecay(0.03, 2, 0.5, staircase=True),
            schedules.PolynomialDecay(0.03, 4, power=2.0),
        ],
    )


def _optimizer(draw: Draw) -> Any:
    """An optimizer that does not divide by gradients that are zero but for rounding."""
    kinds = keras.optimizers
    kind, more = _one(
        draw,
        [
            (kinds.SGD, {}),
            (kinds.SGD, {"momentum": 0.9}),
            (kinds.SGD, {"momentum": 0.8, "nesterov": True}),
            (kinds.Adam, {}),
            (kinds.Adam, {"amsgrad": True, "epsilon": 1e-4}),
            (kinds.AdamW, {}),
            (kinds.RMSprop, {"centered": True, "epsilon": 1e-3}),
            (kinds.RMSprop, {"momentum": 0.5}),
            (kinds.Adagrad, {}),
            (kinds.Adadelta, {}),
            (kinds.Adamax, {}),
            (kinds.Nadam, {}),
            (kinds.Ftrl, {"l1_regularization_strength": 0.01}),
            (kinds.Adafactor, {}),
            (kinds.Lamb, {}),
        ],
    )
    extras: list[dict[str, Any]] = [{}, {"clipnorm": 0.3}, {"clipvalue": 0.05}]
    extras += [{"global_clipnorm": 0.5}, {"weight_decay": 0.02}]
    extras += [{"use_ema": True, "ema_momentum": 0.7, "ema_overwrite_frequency": 2}]
    extras += [{"gradient_accumulation_steps": 2}]
    if kind is kinds.Nadam:
        return kind(0.01, **_one(draw, extras[:4]))
    return kind(_schedule(draw), **more, **_one(draw, extras))


@dataclass
class Output:
    """One output: its labels, loss and metrics by their keys in :data:`KINDS`."""

    kind: str
    width: int
    dtype: str
    loss: str
    metrics: list[str]
    weighted: list[str]
    flat: bool

    @property
    def units(self) -> int:
        """How many values the network gives for a row."""
        return self.width

    def labels(self, draw: Draw, rows: int) -> np.ndarray:
        """Labels of some rows."""
        if self.kind == "regression":
            shape = (rows,) if self.width == 1 and self.flat else (rows, self.width)
            return (3 * draw.normal(size=shape) + 1).astype(self.dtype)
        if self.kind == "counts":
            return draw.integers(0, 6, (rows,)).astype(self.dtype)
        if self.kind == "one-hot":
            return np.eye(self.width)[draw.integers(0, self.width, rows)].astype(self.dtype)
        classes = max(self.width, 2)
        numbers = draw.permutation(np.arange(rows) % classes)  # all classes are there
        return (numbers if self.flat else numbers[:, None]).astype(self.dtype)


@dataclass
class Setting:
    """One setting, all of it drawn from its number."""

    number: int
    draw: Draw = field(init=False, repr=False)

    def __post_init__(self) -> None:
        draw = self.draw = np.random.default_rng(derive_seed(SEED, "setting", self.number))
        self.rows, self.validation_rows = int(draw.integers(25, 80)), int(draw.integers(12, 40))
        self.epochs = int(draw.integers(2, 5))
        self.inputs = [
            (str(draw.choice(INPUT_TYPES)), int(draw.integers(1, 5)))
            for _ in range(draw.integers(1, 3))
        ]
        self.outputs = [_output(draw) for _ in range(_one(draw, [1, 1, 2]))]
        self.typed = bool(draw.random() < 0.3)
        self.hidden = [self._hidden() for _ in range(draw.integers(1, 3))]
        self.by_name = bool(draw.random() < 0.5)
        self.loss_weights = (
            draw.uniform(0.2, 2, len(self.outputs)).round(2).tolist()
            if draw.random() < 0.5
            else None
        )
        self.optimizer = keras.saving.serialize_keras_object(_optimizer(draw))
        self.weights = _one(draw, [None, None, "real", "with zeros"])
        self.validation_weights = self.weights is not None and bool(draw.random() < 0.6)
        self.class_weight = None
        last = self.outputs[0]
        counted = last.kind in ("binary", "logits", "classes", "one-hot")
        if len(self.outputs) == 1 and self.weights is None and counted and draw.random() < 0.6:
            self.class_weight = {
                number: round(float(draw.uniform(0.2, 3)), 2)
                for number in range(max(last.width, 2))
            }
        self.train = self._rows(self.rows)
        self.validation = self._rows(self.validation_rows)

    def _hidden(self) -> dict[str, Any]:
        draw = self.draw
        regularizer = functools.partial(_one, draw, _REGULARIZERS)
        return {
            "units": int(draw.integers(2, 7)),
            "activation": str(draw.choice(ACTIVATIONS)),
            "kernel_regularizer": regularizer(),
            "bias_regularizer": regularizer(),
            "activity_regularizer": regularizer(),
            "kernel_constraint": _one(draw, [None, None, None, "max_norm"]),
            "behind": _one(draw, [None, None, "batch", "layer", "activity", "added"]),
        }

    def _rows(self, rows: int) -> tuple[list[np.ndarray], list[np.ndarray], np.ndarray]:
        draw = self.draw
        x = []
        for dtype, width in self.inputs:
            shape = (rows, width)
            whole = draw.integers(0, 2 if dtype == "bool" else 5, shape)
            x.append((draw.normal(size=shape) if "float" in dtype else whole).astype(dtype))
        y = [output.labels(draw, rows) for output in self.outputs]
        weights = draw.uniform(0.1, 2.0, rows)
        if self.weights == "with zeros":
            weights[::4] = 0.0
        return x, y, weights.astype("float32")

    def build(self, hp: Any = None) -> keras.Model:
        """The compiled network."""
        nodes = [
            keras.Input((width,), dtype=dtype if self.typed else None, name=f"in_{number}")
            for number, (dtype, width) in enumerate(self.inputs)
        ]
        casts = [keras.layers.Lambda(_to_float)(n) if self.typed else n for n in nodes]
        tensor = keras.layers.Concatenate()(casts) if len(casts) > 1 else casts[0]
        for number, layer in enumerate(self.hidden):
            tensor = _behind(layer, number)(_dense(layer, number)(tensor))
        ends = [
            keras.layers.Dense(each.units, KINDS[each.kind][2], name=f"out_{number}")(tensor)
            for number, each in enumerate(self.outputs)
        ]
        single = len(ends) == 1
        model = keras.Model(nodes, ends[0] if single else ends)
        losses = [KINDS[each.kind][0][each.loss]() for each in self.outputs]
        metrics, weighted = (
            [[KINDS[each.kind][1][name]() for name in layer] for each, layer in pairs]
            for pairs in (
                [(each, each.metrics) for each in self.outputs],
                [(each, each.weighted) for each in self.outputs],
            )
        )
        arranged = self._named if self.by_name and not single else list
        model.compile(
            optimizer=keras.saving.deserialize_keras_object(self.optimizer),
            loss=losses[0] if single else arranged(losses),
            metrics=metrics[0] if single else arranged(metrics),
            weighted_metrics=weighted[0] if single else arranged(weighted),
            loss_weights=self.loss_weights and arranged(self.loss_weights),
        )
        return model

    def _named(self, values: list[Any]) -> dict[str, Any]:
        return {f"out_{number}": value for number, value in enumerate(values)}

    @property
    def arguments(self) -> dict[str, Any]:
        """What ``fit`` is given, the search's as well as Keras'; one batch holds all rows."""
        x, y, weights = self.train
        arguments: dict[str, Any] = {
            "x": _alone(x), "y": _alone(y), "batch_size": 128, "epochs": self.epochs, "verbose": 0,
        }  # fmt: skip
        if self.weights is not None:
            arguments["sample_weight"] = weights
        if self.class_weight is not None:
            arguments["class_weight"] = self.class_weight
        x, y, weights = self.validation
        behind = (weights,) if self.validation_weights else ()
        arguments["validation_data"] = (_alone(x), _alone(y), *behind)
        return arguments

    def __str__(self) -> str:
        fields = {
            name: value
            for name, value in vars(self).items()
            if name not in ("draw", "train", "validation")
        }
        return "\n".join(f"{name}: {value}" for name, value in fields.items())


@keras.saving.register_keras_serializable(package="random_settings")
def _to_float(tensor: Any) -> Any:
    return keras.ops.cast(tensor, "float32")


@keras.saving.register_keras_serializable(package="random_settings")
class Added(keras.layers.Layer):
    """Adds a loss, another one in training than in validation."""

    def call(self, inputs: Any, training: bool = False) -> Any:
        self.add_loss((0.3 if training else 0.1) * keras.ops.mean(keras.ops.square(inputs)))
        return inputs


def _dense(layer: dict[str, Any], number: int) -> keras.layers.Layer:
    kept = {name: value for name, value in layer.items() if name != "behind"}
    # A bias in front of a batch normalization has a gradient of zero but for rounding.
    return keras.layers.Dense(**kept, use_bias=layer["behind"] != "batch", name=f"hidden_{number}")


def _behind(layer: dict[str, Any], number: int) -> Callable[[Any], Any]:
    layers = keras.layers
    make_layer: Callable[[Any], Any] = {
        "batch": lambda: layers.BatchNormalization(momentum=0.8, epsilon=0.01),
        "layer": lambda: layers.LayerNormalization(epsilon=0.01),
        "activity": lambda: layers.ActivityRegularization(l1=0.01, l2=0.02),
        "added": lambda: Added(),
        None: lambda: lambda tensor: tensor,
    }[layer["behind"]]()
    return make_layer


def _output(draw: Draw) -> Output:
    kind = str(draw.choice(list(KINDS)))
    losses, metrics, _, dtypes = KINDS[kind]
    width = {"regression": draw.integers(1, 3), "classes": 3, "one-hot": 3}.get(kind, 1)
    several = list(draw.permutation(list(metrics))[: draw.integers(0, 3)])
    return Output(
        kind=kind,
        width=int(width),
        dtype=str(draw.choice(dtypes)),
        loss=str(draw.choice(list(losses))),
        metrics=[str(name) for name in several],
        weighted=[str(draw.choice(list(metrics)))] if draw.random() < 0.5 else [],
        flat=bool(draw.random() < 0.5),
    )


def _one(draw: Draw, choices: list[Any]) -> Any:
    return choices[draw.integers(len(choices))]


def _alone(arrays: list[np.ndarray]) -> Any:
    return arrays[0] if len(arrays) == 1 else arrays
