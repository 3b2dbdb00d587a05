"""Selection of trials that are trained together in one compiled step, and of their padded shape.

The padded shape is part of a trial's program, so a trial's result does not depend on which other
trials are trained with it or before it.
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
from collections.abc import Sequence

import keras

from cerebros_spark.core.types import TrialSpec
from cerebros_spark.training.fused.graph.network import Connection, GroupConfig, Network, Unit
from cerebros_spark.training.fused.graph.padding import PaddedShape
from cerebros_spark.training.fused.graph.parser import NotFusableError, parse_network
from cerebros_spark.training.fused.losses import BatchScorer
from cerebros_spark.training.fused.optimizer_rules import get_update_rule
from cerebros_spark.training.keras.metrics import build_scoring_model
from nas.config.dataset import SearchData
from nas.config.search_config import SearchConfig
from nas.spaces.base import Space
from nas.spaces.cerebros.plan import NetworkFuture, UnitFuture

logger = logging.getLogger(__name__)

# Assumed number of trials of a search without max_trials.
_DEFAULT_TRIALS = 100

# Number of networks drawn to find a shape, and of those used to estimate the training time.
_SAMPLES, _TIMED_SAMPLES = 128, 16

# Seconds on one core: Keras' tracing of a hidden unit, a training step of a hidden unit in Keras,
# and compiling any number of hidden units. The ratios are about the same on other machines.
_TRACING_SECONDS, _STEP_SECONDS = 0.25, 0.0006
_COMPILING_SECONDS = 5.0
#: Trials are fused if Keras would take at least this many times as long as the compilation.
MARGIN = 2.0


class Fusion:
    """Callable that marks trials to be trained together in one compiled step if that is faster.

    Compiling a step for a new padded shape takes longer than tracing one small network, but the
    compiled step avoids hundreds of small operations.
    """

    def __init__(self, config: SearchConfig, space: Space, data: SearchData) -> None:
        self._config = config
        self._space = space
        self._data = data
        self._shapes: dict[tuple[GroupConfig, int], PaddedShape | None] = {}
        self._logged = False

    def __call__(self, spec: TrialSpec) -> TrialSpec:
        """Return the spec, marked for fused training unless Keras should train it individually."""
        program = json.loads(spec.program)
        try:
            recipe, network = parse_network(program)
        except NotFusableError as error:
            self._log_once(error)
            return spec
        key = recipe, spec.batch_size
        if key not in self._shapes:
            self._shapes[key] = self._find_usual_shape(recipe, spec)
        usual = self._shapes[key]
        if usual is None:
            return spec
        shape = usual | PaddedShape.from_network(network)
        if shape != usual:
            shape = shape.with_margin()
        program["fused"] = dataclasses.asdict(shape)
        group = json.dumps([dataclasses.asdict(recipe), program["fused"], spec.batch_size])
        group += f" fold {spec.fold}" if spec.fold else ""
        return dataclasses.replace(
            spec,
            trainer="fused",
            program=json.dumps(program),
            group=hashlib.sha256(group.encode()).hexdigest()[:16],
        )

    def _log_once(self, reason: NotFusableError) -> None:
        if not self._logged:
            logger.info("Keras trains the trials one by one: %s", reason)
            self._logged = True

    def _find_usual_shape(self, recipe: GroupConfig, spec: TrialSpec) -> PaddedShape | None:
        """Return a padded shape that fits sampled networks; None if Keras should train them.

        The shape depends only on the search space and configuration, so a resumed search makes the
        same choice unless it is extended. Only networks with the same ``recipe`` train together.
        """
        try:
            plans = iter(self._space.sample_plans(_SAMPLES))
            networks = (_to_network(plan, recipe.merge) for plan in plans)
            timed = list(itertools.islice(networks, _TIMED_SAMPLES))
            if not timed:
                raise NotFusableError("the space does not plan its networks")
            get_update_rule(json.loads(recipe.compiled)["optimizer"])
            labels = [
                keras.ops.zeros((1, *shape), dtype) for shape, dtype in self._data.label_forms
            ]
            BatchScorer(build_scoring_model(spec.program, labels))
            self._check_worth(timed, spec.batch_size)
            return functools.reduce(
                operator.or_, map(PaddedShape.from_network, [*timed, *networks])
            ).with_margin()
        except NotFusableError as error:
            self._log_once(error)
            return None

    def _check_worth(self, networks: Sequence[Network], batch_size: int) -> None:
        """Raise NotFusableError unless Keras would take ``MARGIN`` times as long as compilation."""
        trials = self._config.tuner.max_trials or _DEFAULT_TRIALS
        units = statistics.fmean(len(list(network.units)) for network in networks)
        steps = -(-self._data.manifest.train_rows // batch_size) * self._config.max_epochs
        seconds = trials * units * (_TRACING_SECONDS + steps * _STEP_SECONDS)
        if seconds < MARGIN * _COMPILING_SECONDS:
            raise NotFusableError(
                f"about {seconds:.0f} s of training by Keras are not worth "
                f"{_COMPILING_SECONDS:.0f} s of compiling"
            )


def _to_network(plan: NetworkFuture, merge: str) -> Network:
    """Convert a Cerebros plan to a network that has no weights or layer names."""
    return Network(
        tuple(unit.neurons for unit in plan.inputs),
        tuple(tuple(_to_unit(unit, unit.level) for unit in level) for level in plan.hidden),
        tuple(_to_unit(unit, -1) for unit in plan.outputs),
        (),
        merge,
    )


def _to_unit(unit: UnitFuture, level: int) -> Unit:
    reads = tuple(Connection(edge.level, edge.unit, edge.gated) for edge in unit.edges)
    return Unit(level, unit.number, unit.neurons, reads, "", "")
