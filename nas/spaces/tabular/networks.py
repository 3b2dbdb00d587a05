"""Builder of the complete, compiled networks of a :class:`~.space.TabularSpace`."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from typing import Any

import keras

from cerebros_spark.core.errors import ArgumentError
from cerebros_spark.data.table.schema import MatrixLayout
from nas.metrics.losses import get_loss_name, get_loss_title
from nas.spaces.base import Space
from nas.spaces.cerebros.networks import CerebrosNetworks, Output
from nas.spaces.cerebros.space import CerebrosSpace
from nas.spaces.hyperparameters import WithDefaults
from nas.spaces.tabular.ends import NetworkEnds
from nas.spaces.tabular.linear import build_linear
from nas.spaces.tabular.perceptron import build_perceptron
from nas.spaces.tabular.portfolio import list_points
from nas.spaces.tabular.realmlp import build_realmlp
from nas.spaces.tabular.residual import build_residual
from nas.spaces.tabular.space import FAMILY, TABM, TabularSpace
from nas.spaces.tabular.tabm import MEMBER_LOSSES, build_tabm
from nas.spaces.tabular.training import make_warm_adamw

_MEAN = "sum_over_batch_size"  # Keras' name of the mean over rows


class TabularNetworks(Space):
    """Search space of complete, compiled networks for raw tables.

    Args:
        space: Families to search.
        fronts: Layout of each input's matrix.
        outputs: Settings of the outputs. For a regression, they include the labels' mean and
            variance.
        steps: Number of training steps of a trial.
        batch_size: Rows per training step.
        seed: Seed for wiring Cerebros networks.
        loss_weights: Weight of each output's loss in the total loss; if None, all are 1.
        has_weights: Whether there are sample weights or class weights; TabM is then not searched.

    Raises:
        ArgumentError: If no family can be trained with the losses of the outputs.
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
        has_weights: bool = False,
    ) -> None:
        self.fronts = tuple(fronts)
        self.outputs = tuple(outputs)
        self.families = _list_families(space, self.outputs, has_weights)
        self._steps = steps
        self._batch_size = batch_size
        self._loss_weights = tuple(loss_weights or [1.0] * len(self.outputs))
        self._cerebros = CerebrosNetworks(
            CerebrosSpace(),
            [(front.width,) for front in self.fronts],
            self.outputs,
            fronts=self.fronts,
            seed=seed,
            loss_weights=loss_weights,
        )

    @property
    def gradient_scale(self) -> float:
        """Factor that makes the loss's gradient independent of the label's unit of measurement."""
        return self._cerebros.gradient_scale

    @property
    def points(self) -> list[dict[str, Any]]:
        """Strong configurations of every family, best first, with which a search begins."""
        points = list_points(is_regression=bool(self.outputs[0].mean))
        return [values for values in points if values[FAMILY] in self.families]

    def build(self, hp: Any) -> keras.Model:
        """Build the compiled network that hyperparameter values define."""
        hp = WithDefaults(hp)
        hp.Fixed("batch_size", self._batch_size)
        family = str(hp.Choice(FAMILY, list(self.families)))
        inputs = tuple(
            keras.Input((front.width,), name=f"input_{number}")
            for number, front in enumerate(self.fronts)
        )
        ends = NetworkEnds(inputs, self.fronts, self.outputs, self._loss_weights)
        builders = {
            "realmlp": build_realmlp,
            TABM: build_tabm,
            "mlp": build_perceptron,
            "residual": build_residual,
            "cerebros": self._build_cerebros,
            "linear": build_linear,
        }
        built: Any = None
        for name in self.families:
            scope = hp.name_scope(name) if name != "cerebros" else contextlib.nullcontext()
            with hp.conditional_scope(FAMILY, [name]), scope:
                made = builders[name](hp, ends, self._steps, name == family)
            built = made if name == family else built
        heads, optimizer = built
        model = keras.Model(list(inputs), heads)
        model.compile(optimizer=optimizer, **self._cerebros.make_scoring())
        return model

    def _build_cerebros(self, hp: Any, ends: NetworkEnds, steps: int, active: bool) -> Any:
        """Build a Cerebros network, with the arguments and results of the other builders."""
        with hp.name_scope("cerebros"):
            rate = hp.Float("rate", 1e-3, 1e-2, sampling="log", default=5e-3)
            decay = hp.Float("weight_decay", 1e-4, 0.1, sampling="log", default=1e-2)
        plan = self._cerebros.plan(hp)
        if not active:
            return None
        heads = self._cerebros.build_heads(plan, ends.inputs)
        return heads, make_warm_adamw(rate, steps, decay)


def _list_families(
    space: TabularSpace, outputs: Sequence[Output], has_weights: bool
) -> tuple[str, ...]:
    """Return the families that can be trained with the losses of the outputs."""
    reason = "rows or classes have weights" if has_weights else ""
    for output in outputs:
        loss = keras.losses.get(output.loss)
        is_mean = getattr(loss, "reduction", _MEAN) == _MEAN
        if not is_mean or get_loss_name(loss) not in MEMBER_LOSSES.get(output.activation, ()):
            reason = f"the loss of {output.name!r} is {get_loss_title(loss)}"
    if not reason:
        return space.families
    families = tuple(name for name in space.families if name != TABM)
    if not families:
        raise ArgumentError(
            f'the family "{TABM}" learns by mean squared errors or cross-entropies, without '
            f"weights, but {reason}: add another family"
        )
    return families
