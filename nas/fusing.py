"""Decides which trials are trained many at a time, and in which shape.

The shape is part of a trial's program: what a network comes out as must not depend on who else is
trained beside it, nor on who was there before.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import logging
from collections.abc import Iterator, Sequence
from typing import Any

import keras

from cerebros_spark.seeds import derive
from cerebros_spark.training.fused.reading import (
    Network,
    Read,
    Recipe,
    Unit,
    UnreadableError,
    read,
)
from cerebros_spark.training.fused.scoring import Scoring
from cerebros_spark.training.fused.shapes import Shape
from cerebros_spark.training.fused.updates import rule
from cerebros_spark.training.metrics import scoring_model
from cerebros_spark.types import TrialSpec
from nas.spaces.cerebros.future import LATERAL, NetworkFuture, OutputFuture
from nas.spaces.cerebros.moiety import draw_moiety
from nas.spaces.cerebros.networks import CerebrosNetworks
from nas.spaces.cerebros.wiring import draw_future

logger = logging.getLogger("cerebros_spark")

# Networks that are drawn to see how large they get.
_DRAWN = 32

# Seconds, measured on one core: what Keras takes to trace a unit and for a unit in a step, and
# what compiling takes in all and for a unit. Other machines have about the same proportions.
_TRACING, _STEP = 0.25, 0.0006
_COMPILING, _COMPILING_UNIT = 2.0, 0.3
_MARGIN = 2.0


class Fusing:
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
        self._shapes: dict[tuple[Recipe, int], list[Shape]] = {}
        self._told = False

    def __call__(self, spec: TrialSpec) -> TrialSpec:
        """The trial as it is, or as one that can be trained with others."""
        try:
            recipe, network = read(spec.program)
            key = recipe, spec.batch_size
            if key not in self._shapes:
                self._check(recipe, spec.program)
                shapes = self._expected()
                self._weigh(network, spec.batch_size, (shapes or [Shape.of(network)])[0])
                self._shapes[key] = shapes
        except UnreadableError as error:
            if not self._told:
                logger.info("trials are trained one by one by Keras: %s", error)
                self._told = True
            return spec
        shape = self._covering(self._shapes[key], Shape.of(network))
        program = json.loads(spec.program)
        program["fused"] = dataclasses.asdict(shape)
        name = json.dumps([dataclasses.asdict(recipe), program["fused"], spec.batch_size])
        return dataclasses.replace(
            spec,
            trainer="fused",
            program=json.dumps(program),
            group=hashlib.sha256(name.encode()).hexdigest()[:16],
        )

    def _check(self, recipe: Recipe, program: str) -> None:
        """Raises UnreadableError if the optimizer, a loss or a metric is not one of those."""
        rule(json.loads(recipe.compiled)["optimizer"])
        rows = [keras.ops.zeros((1, *shape), dtype) for shape, dtype in self._labels]
        Scoring(scoring_model(program, rows))

    def _weigh(self, network: Network, batch_size: int, shape: Shape) -> None:
        """Raises UnreadableError if Keras would be done before the shape is compiled."""
        units = len(list(network.units))
        steps = -(-self._rows // batch_size) * self._epochs
        alone = self._trials * units * (_TRACING + steps * _STEP)
        compiling = _COMPILING + _COMPILING_UNIT * shape.levels * shape.units
        if alone < _MARGIN * compiling:
            raise UnreadableError(
                f"about {alone:.0f} s of training by Keras are not worth {compiling:.0f} s of "
                "compiling"
            )

    def _expected(self) -> list[Shape]:
        """What networks of the space are covered by, if it is a space of Cerebros networks."""
        if not isinstance(self._space, CerebrosNetworks):
            return []
        total: Shape | None = None
        for network in drawn(self._space):
            shape = Shape.of(network)
            total = shape if total is None else total | shape
        return [] if total is None else [total.roomy()]

    def _covering(self, shapes: list[Shape], shape: Shape) -> Shape:
        """The first of the shapes that covers a network; a new one if none does."""
        for known in shapes:
            if known | shape == known:
                return known
        largest = shape
        for known in shapes:
            largest |= known
        # What is there keeps its room; what was too small gets some.
        shapes.append(largest if not shapes else (shapes[-1] | shape.roomy() | largest))
        if len(shapes) == 1:
            shapes[0] = shapes[0].roomy()
        return shapes[-1]


def drawn(networks: CerebrosNetworks) -> Iterator[Network]:
    """Some networks of a space, without weights or names."""
    outputs = [OutputFuture(output.width, output.activation) for output in networks.outputs]
    for number in range(_DRAWN):
        seed = derive(networks.seed, "shape", number)
        moiety = draw_moiety(networks.space, seed)
        yield _network(draw_future(networks.space, moiety, networks.widths, outputs, seed))


def _network(future: NetworkFuture) -> Network:
    hidden = tuple(
        tuple(
            Unit(
                unit.level,
                unit.number,
                unit.neurons,
                tuple(Read(e.level, e.unit, e.gated) for e in unit.edges),
                "",
                "",
            )
            for unit in level
        )
        for level in future.hidden
    )
    outputs = tuple(
        Unit(
            -1,
            unit.number,
            unit.neurons,
            tuple(Read(edge.level, edge.unit) for edge in unit.edges if edge.kind != LATERAL),
            "",
            "",
        )
        for unit in future.outputs
    )
    return Network(tuple(unit.neurons for unit in future.inputs), hidden, outputs, ())
