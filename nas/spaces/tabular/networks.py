"""Compiled networks of a TabularSpace."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Sequence
from typing import Any

import keras
from keras import layers

from cerebros_spark.data.table.schema import MatrixLayout
from cerebros_spark.training.keras.schedules import CosLog4, WarmCosine
from nas.spaces.base import Space
from nas.spaces.cerebros.networks import CerebrosNetworks, Output
from nas.spaces.cerebros.space import CerebrosSpace
from nas.spaces.front import embed_codes
from nas.spaces.hyperparameters import WithDefaults
from nas.spaces.tabular.portfolio import list_points
from nas.spaces.tabular.realmlp import RealMLPValues, build_body, dense, embed_numbers
from nas.spaces.tabular.space import FAMILY, TabularSpace

# Units without batch normalization, whose statistics forget, and with more neurons than published.
_CEREBROS = CerebrosSpace(
    maximum_levels=4,
    minimum_neurons_per_unit=4,
    maximum_neurons_per_unit=32,
    regularization="none",
    learning_rate=1e-2,
)

_MANY_NUMBERS = 24


class TabularNetworks(Space):
    """Search space of complete, compiled networks for raw tables.

    Args:
        space: The families.
        fronts: Layout of the matrix of each input.
        outputs: Settings of the outputs; a regression with mean and variance of the labels.
        steps: Number of training steps of a trial.
        batch_size: Rows per training step.
        seed: Seed for wiring Cerebros networks.
        loss_weights: Weight of each output's loss in the total loss; None for weights of 1.
    """

    def __init__(
        self,
        space: TabularSpace,
        fronts: Sequence[MatrixLayout],
        outputs: Sequence[Output],
        *,
        steps: int,
        batch_size: int,
        seed: int = 0,
        loss_weights: Sequence[float] | None = None,
    ) -> None:
        self.space = space
        self.fronts = tuple(fronts)
        self.outputs = tuple(outputs)
        self._steps = steps
        self._batch_size = batch_size
        self._cerebros = CerebrosNetworks(
            _CEREBROS,
            [(front.width,) for front in self.fronts],
            self.outputs,
            fronts=self.fronts,
            seed=seed,
            loss_weights=loss_weights,
        )

    @property
    def is_regression(self) -> bool:
        """Whether the first output predicts numbers."""
        return bool(self.outputs[0].mean)

    @property
    def gradient_scale(self) -> float:
        """Constant that makes gradients independent of the unit of the label."""
        return self._cerebros.gradient_scale

    @property
    def points(self) -> list[dict[str, Any]]:
        """Strong values of every family, best first, with which a search begins."""
        points = list_points(self.is_regression)
        return [values for values in points if values[FAMILY] in self.space.families]

    def build(self, hp: Any) -> keras.Model:
        """Build the compiled network that hyperparameter values define."""
        hp = WithDefaults(hp)
        hp.Fixed("batch_size", self._batch_size)
        family = str(hp.Choice(FAMILY, list(self.space.families)))
        inputs = [
            keras.Input((front.width,), name=f"input_{number}")
            for number, front in enumerate(self.fronts)
        ]
        builders = {
            "realmlp": self._build_realmlp,
            "mlp": self._build_mlp,
            "residual": self._build_residual,
            "cerebros": self._build_cerebros,
            "linear": self._build_linear,
        }
        built: Any = None
        for name in self.space.families:
            scope = hp.name_scope(name) if name != "cerebros" else contextlib.nullcontext()
            with hp.conditional_scope(FAMILY, [name]), scope:
                made = builders[name](hp, inputs, self._steps, name == family)
            built = made if name == family else built
        heads, optimizer = built
        model = keras.Model(inputs, heads)
        self._compile(model, optimizer)
        return model

    def _compile(self, model: keras.Model, optimizer: Any) -> None:
        model.compile(optimizer=optimizer, **self._cerebros.make_scoring())

    def _join(self, tensors: Sequence[Any]) -> Any:
        return tensors[0] if len(tensors) == 1 else layers.Concatenate()(list(tensors))

    def _embed(self, inputs: Sequence[Any]) -> Any:
        """Embed the codes of all inputs, and join them."""
        return self._join(
            [
                embed_codes(tensor, front, f"input{i}")
                for i, (tensor, front) in enumerate(zip(inputs, self.fronts, strict=True))
            ]
        )

    def _add_heads(self, body: Any, make: Callable[[Any, int, str], Any]) -> list[Any]:
        heads = []
        for output in self.outputs:
            standard = make(body, output.width, f"{output.name}_raw")
            if output.mean:
                scale = [math.sqrt(v) if v > 0 else 1.0 for v in output.variance]
                single = output.width == 1
                heads.append(
                    layers.Rescaling(
                        scale[0] if single else scale,
                        output.mean[0] if single else list(output.mean),
                        name=output.name,
                        dtype=keras.config.floatx(),
                    )(standard)
                )
            else:
                heads.append(
                    layers.Activation(
                        output.activation, name=output.name, dtype=keras.config.floatx()
                    )(standard)
                )
        return heads

    # Families ----------------------------------------------------------------------------

    def _build_realmlp(self, hp: Any, inputs: Any, steps: int, active: bool) -> Any:
        """RealMLP with the search space of TabArena (arXiv 2407.04491, table C.1).

        Numbers that change the traced step have few values, so that trials share its graphs.
        """
        values = RealMLPValues(
            hidden_layers=hp.Int("hidden_layers", 2, 4, default=3),
            width=hp.Choice("width", [128, 256, 384], default=256),
            dropout=hp.Choice("dropout", [0.0, 0.15, 0.3, 0.45], default=0.15),
            activation=hp.Choice(
                "activation", ["mish", "selu"], default="mish" if self.is_regression else "selu"
            ),
            embedding_scale=hp.Float("embedding_scale", 0.01, 10.0, sampling="log", default=0.1),
            first_factor=hp.Choice("first_factor", [0.5, 1.0], default=1.0),
            # Half the work of a step on a wide table is that of the frequencies.
            frequencies=16 if max(f.numbers for f in self.fronts) <= _MANY_NUMBERS else 8,
        )
        usual = 0.2 if self.is_regression else 0.04
        rate = hp.Float("learning_rate", 0.01, 0.3, sampling="log", default=usual)
        decay = hp.Float("weight_decay", 0.001, 0.05, sampling="log", default=0.02)
        beta = hp.Choice("one_minus_beta2", [0.05, 0.01], default=0.05)
        if not active:
            return None
        bodies = [
            build_body(tensor, front, values, f"input{i}")
            for i, (tensor, front) in enumerate(zip(inputs, self.fronts, strict=True))
        ]
        optimizer = _make_adamw(CosLog4(rate, steps), 1 - beta, decay)
        return self._add_heads(
            self._join(bodies), lambda body, units, name: dense(body, units, 1.0, name, zeros=True)
        ), optimizer

    def _build_mlp(self, hp: Any, inputs: Any, steps: int, active: bool) -> Any:
        """Perceptron with embedded numbers, as the members of TabPack (arXiv 2607.05380)."""
        blocks = hp.Int("blocks", 1, 4, default=2)
        width = hp.Choice("width", [128, 256, 384], default=256)
        dropout = hp.Choice("dropout", [0.0, 0.1, 0.3, 0.5], default=0.1)
        scale = hp.Float("embedding_scale", 0.01, 10.0, sampling="log", default=0.1)
        size = hp.Choice("embedding_size", [8, 16], default=8)
        rate = hp.Float("learning_rate", 1e-4, 5e-3, sampling="log", default=2e-3)
        decay = hp.Float("weight_decay", 1e-3, 1.0, sampling="log", default=1e-2)
        if not active:
            return None
        values = RealMLPValues(embedding_size=size, embedding_scale=scale)
        parts = []
        for i, (tensor, front) in enumerate(zip(inputs, self.fronts, strict=True)):
            tensor = embed_codes(tensor, front, f"input{i}")
            if front.numbers:
                parts.append(
                    embed_numbers(tensor[:, : front.numbers], front.numbers, values, f"input{i}")
                )
            if front.width > front.numbers:
                parts.append(tensor[:, front.numbers :])
        body = self._join(parts)
        for number in range(blocks):
            body = layers.Dense(width, activation="relu", name=f"hidden{number}")(body)
            if dropout:
                body = layers.Dropout(dropout, name=f"dropout{number}")(body)
        optimizer = _make_adamw(WarmCosine(rate, steps, 0.05), 0.99, decay)
        return self._add_heads(body, _make_plain_head), optimizer

    def _build_residual(self, hp: Any, inputs: Any, steps: int, active: bool) -> Any:
        """Residual perceptron (Gorishniy et al., arXiv 2106.11959, section 3.2)."""
        blocks = hp.Int("blocks", 1, 4, default=2)
        width = hp.Choice("width", [64, 128, 256], default=128)
        dropout = hp.Choice("dropout", [0.0, 0.2, 0.4], default=0.2)
        rate = hp.Float("learning_rate", 1e-4, 5e-3, sampling="log", default=1e-3)
        decay = hp.Float("weight_decay", 1e-4, 0.1, sampling="log", default=1e-2)
        if not active:
            return None
        body = layers.Dense(width, name="first")(self._embed(inputs))
        for number in range(blocks):
            inner = layers.LayerNormalization(name=f"normalization{number}")(body)
            inner = layers.Dense(2 * width, activation="relu", name=f"hidden{number}")(inner)
            inner = layers.Dropout(dropout, name=f"dropout{number}")(inner)
            inner = layers.Dense(width, name=f"last{number}")(inner)
            body = layers.Add()([body, inner])
        body = layers.Activation("relu")(layers.LayerNormalization(name="normalization")(body))
        optimizer = _make_adamw(WarmCosine(rate, steps, 0.05), 0.99, decay)
        return self._add_heads(body, _make_plain_head), optimizer

    def _build_cerebros(self, hp: Any, inputs: Any, steps: int, active: bool) -> Any:
        """Random network of levels and units (:mod:`nas.spaces.cerebros`)."""
        with hp.name_scope("cerebros"):
            rate = hp.Float("rate", 3e-3, 3e-2, sampling="log", default=1e-2)
            decay = hp.Float("weight_decay", 1e-4, 0.1, sampling="log", default=1e-2)
        plan = self._cerebros.plan(hp)
        if not active:
            return None
        optimizer = _make_adamw(WarmCosine(rate, steps, 0.05), 0.99, decay)
        return self._cerebros.build_heads(plan, inputs), optimizer

    def _build_linear(self, hp: Any, inputs: Any, steps: int, active: bool) -> Any:
        """One layer: linear or logistic regression, the yardstick of the others."""
        rate = hp.Float("learning_rate", 3e-3, 0.1, sampling="log", default=0.03)
        decay = hp.Float("weight_decay", 1e-4, 0.3, sampling="log", default=1e-2)
        if not active:
            return None
        optimizer = _make_adamw(WarmCosine(rate, steps), 0.99, decay)
        heads = self._add_heads(
            self._embed(inputs),
            lambda body, units, name: layers.Dense(units, kernel_initializer="zeros", name=name)(
                body
            ),
        )
        return heads, optimizer


def _make_plain_head(body: Any, units: int, name: str) -> Any:
    return layers.Dense(units, name=name)(body)


def _make_adamw(schedule: Any, beta: float, decay: float) -> Any:
    optimizer = keras.optimizers.AdamW(
        schedule, beta_1=0.9, beta_2=beta, weight_decay=decay, epsilon=1e-8
    )
    optimizer.exclude_from_weight_decay(var_names=["bias"])
    return optimizer
