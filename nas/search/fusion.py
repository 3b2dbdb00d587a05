"""Decides which trials are trained many at a time, and in which shape.

The shape is part of a trial's program: what a network comes out as must not depend on who else is
trained beside it, nor on who was there before.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import itertools
import json
import logging
import operator
import statistics
from collections.abc import Iterator, Sequence
from typing import Any

import keras

from cerebros_spark.core.seeding import derive
from cerebros_spark.core.types import TrialSpec
from cerebros_spark.training.fused.graph.network import Network, Read, Recipe, Unit
from cerebros_spark.training.fused.graph.padding import Shape
from cerebros_spark.training.fused.graph.parser import UnreadableError, read
from cerebros_spark.training.fused.losses import Scoring
from cerebros_spark.training.fused.optimizer_rules import rule
from cerebros_spark.training.keras.metrics import build_scoring_model
from nas.spaces.cerebros.moiety import draw_moiety
from nas.spaces.cerebros.networks import CerebrosNetworks
from nas.spaces.cerebros.plan import OutputFuture, UnitFuture
from nas.spaces.cerebros.wiring import draw_future

logger = logging.getLogger("cerebros_spark")

# Networks that are drawn to see how large they get, and those that tell what training them takes.
_DRAWN, _WEIGHED = 128, 16

# Seconds, measured on one core: what Keras takes to trace a unit and for a unit in a step, and
# what compiling takes, however many units there are. Other machines have about the same
# proportions.
_TRACING, _STEP = 0.25, 0.0006
_COMPILING = 5.0
_MARGIN = 2.0


class Fusion:
    """Marks the trials of a search that can be trained together, if it pays.

    To compile a shape takes longer than to trace a small network once; what is compiled is spared
    the hundreds of small operations of each step.

    Args:
        space: Where its networks come from.
        labels: Shape of a row and dtype of each model output's labels.
        trials: How many trials there will be, at most.
        epochs: Epochs of a trial, at most.
        rows: Rows of the training data.
    """

    def __init__(
        self,
        space: Any,
        labels: Sequence[tuple[tuple[int, ...], str]],
        *,
        trials: int,
        epochs: int,
        rows: int,
    ) -> None:
        self._space = space
        self._labels = labels
        self._trials = trials
        self._epochs = epochs
        self._rows = rows
        self._shapes: dict[tuple[Recipe, int], Shape | None] = {}
        self._told = False

    def __call__(self, spec: TrialSpec) -> TrialSpec:
        """The trial as it is, or as one that can be trained with others."""
        described = json.loads(spec.program)
        try:
            recipe, network = read(described)
        except UnreadableError as error:
            self._tell(error)
            return spec
        key = recipe, spec.batch_size
        if key not in self._shapes:
            self._shapes[key] = self._usual(recipe, spec)
        usual = self._shapes[key]
        if usual is None:
            return spec
        shape = usual | Shape.of(network)
        if shape != usual:
            shape = shape.roomy()
        described["fused"] = dataclasses.asdict(shape)
        name = json.dumps([dataclasses.asdict(recipe), described["fused"], spec.batch_size])
        return dataclasses.replace(
            spec,
            trainer="fused",
            program=json.dumps(described),
            group=hashlib.sha256(name.encode()).hexdigest()[:16],
        )

    def _tell(self, why: UnreadableError) -> None:
        if not self._told:
            logger.info("trials are trained one by one by Keras: %s", why)
            self._told = True

    def _usual(self, recipe: Recipe, spec: TrialSpec) -> Shape | None:
        """The shape of nearly all networks of a recipe; None if they are left to Keras.

        It is the space's and the search's alone, so that a search that is gone on with decides
        as it did before.
        """
        try:
            if not isinstance(self._space, CerebrosNetworks):
                raise UnreadableError("the networks are no CerebrosNetworks")
            rule(json.loads(recipe.compiled)["optimizer"])
            rows = [keras.ops.zeros((1, *shape), dtype) for shape, dtype in self._labels]
            Scoring(build_scoring_model(spec.program, rows))
            networks = drawn(self._space, recipe.merge)
            few = list(itertools.islice(networks, _WEIGHED))
            self._weigh(few, spec.batch_size)
            shape = functools.reduce(operator.or_, map(Shape.of, [*few, *networks])).roomy()
        except UnreadableError as error:
            self._tell(error)
            return None
        return shape

    def _weigh(self, networks: Sequence[Network], batch_size: int) -> None:
        """Raises UnreadableError if Keras would be done before the shape is compiled."""
        units = statistics.fmean(len(list(network.units)) for network in networks)
        steps = -(-self._rows // batch_size) * self._epochs
        alone = self._trials * units * (_TRACING + steps * _STEP)
        if alone < _MARGIN * _COMPILING:
            raise UnreadableError(
                f"about {alone:.0f} s of training by Keras are not worth {_COMPILING:.0f} s of "
                "compiling"
            )


def drawn(networks: CerebrosNetworks, merge: str) -> Iterator[Network]:
    """Some networks of a space, without weights or names."""
    outputs = [OutputFuture(output.width, output.activation) for output in networks.outputs]
    for number in range(_DRAWN):
        seed = derive(networks.seed, "shape", number)
        moiety = draw_moiety(networks.space, seed)
        future = draw_future(networks.space, moiety, networks.widths, outputs, seed)
        yield Network(
            tuple(unit.neurons for unit in future.inputs),
            tuple(tuple(_unit(unit, unit.level) for unit in level) for level in future.hidden),
            tuple(_unit(unit, -1) for unit in future.outputs),
            (),
            merge,
        )


def _unit(unit: UnitFuture, level: int) -> Unit:
    reads = tuple(Read(edge.level, edge.unit, edge.gated) for edge in unit.edges)
    return Unit(level, unit.number, unit.neurons, reads, "", "")
