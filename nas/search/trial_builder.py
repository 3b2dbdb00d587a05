"""From hyperparameter values to a trial that can be sent out. The only place that builds."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import keras

from cerebros_spark.core.errors import ArgumentError, TrialError
from cerebros_spark.core.seeding import derive
from cerebros_spark.core.types import TrialSpec
from cerebros_spark.core.validation import check_integer
from cerebros_spark.training.fused.graph.parser import UnreadableError
from cerebros_spark.training.fused.state_layout import initial
from cerebros_spark.training.keras.checkpoint import get_initial_state
from cerebros_spark.training.keras.metrics import check_additive
from cerebros_spark.training.keras.scopes import (
    custom_object_scope,
    dtype_policy_scope,
    seeded_initializers,
)
from cerebros_spark.training.keras.serialization import import_custom_modules, serialize_model
from nas.spaces.base import Space
from nas.spaces.cerebros.networks import CerebrosNetworks


@dataclass(frozen=True)
class BuiltTrial:
    """A trial, the state it starts from, and what else the journal is to know of it."""

    spec: TrialSpec
    state: bytes
    about: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class TrialBuilder:
    """Builds trials of one search.

    Attributes:
        space: Where networks come from.
        seed: Seed of the run.
        epochs: Epochs of a trial, at most.
        batch_size: Rows in a training step, where no hyperparameter ``batch_size`` says otherwise.
        max_model_size: Weights a network may have; None for any number.
        custom_objects: Layers, losses and metrics that are not Keras' own, by name.
        dtype_policy: Keras' policy under which networks are built; None for the thread's own.
            Keras keeps it by thread.
        class_weight: What rows of a class count in training; None where all count the same.
        fusing: Marks trials that can be trained together; None to train each by itself.
    """

    space: Space
    seed: int
    epochs: int
    batch_size: int
    max_model_size: int | None = None
    custom_objects: Mapping[str, Any] = field(default_factory=dict)
    dtype_policy: Any = None
    class_weight: Mapping[int, float] | None = None
    fusing: Callable[[TrialSpec], TrialSpec] | None = None

    def __call__(
        self, trial_id: str, index: int, hyperparameters: Any, epochs: int | None = None
    ) -> BuiltTrial:
        """Builds a trial. Its initial weights depend on the seed and the trial's name alone.

        Raises:
            TrialError: If the network is larger than allowed, or can't be sent out.
            Exception: Whatever the space raises.
        """
        seed = derive(self.seed, trial_id, "weights")
        with dtype_policy_scope(self.dtype_policy):
            with seeded_initializers(seed):
                made = self._written(hyperparameters)
            if made is None:
                with seeded_initializers(seed):
                    made = self._built(hyperparameters)
        spec = TrialSpec(
            trial_id=trial_id,
            index=index,
            trainer="keras",
            program=made.program,
            seed=self.seed,
            epochs=epochs or self.epochs,
            batch_size=_batch_size(hyperparameters, self.batch_size),
            parameters=made.parameters,
        )
        if self.fusing is not None:
            spec = self.fusing(spec)
        return BuiltTrial(spec, made.state)

    @contextlib.contextmanager
    def knowing(self) -> Iterator[None]:
        """Have Keras know custom objects and import their modules while a network is built.

        Raises:
            TrialError: If one can't be found.
        """
        with custom_object_scope(self.custom_objects), import_custom_modules({"imports": []}):
            yield

    def _built(self, hyperparameters: Any) -> _Made:
        """A network as Keras builds it."""
        with self.knowing():
            model = self.space.build(hyperparameters)
        if not isinstance(model, keras.Model):
            raise TrialError(f"build(hp) must return a keras.Model, but got {model!r}")

        parameters = model.count_params()
        self._check_size(parameters)
        with custom_object_scope(self.custom_objects):
            program = serialize_model(model, self.class_weight)
            check_additive(model)
        return _Made(parameters, program, get_initial_state(model))

    def _written(self, hyperparameters: Any) -> _Made | None:
        """The same network, written down without Keras building it; None if it must be built."""
        if not isinstance(self.space, CerebrosNetworks):
            return None
        with custom_object_scope(self.custom_objects):
            told = self.space.write(hyperparameters, self.class_weight)
        if told is None:
            return None
        self._check_size(told.parameters)
        try:
            state = initial(told.weights, told.trainable, told.optimizer)
        except UnreadableError:
            return None  # it keeps something else of the weights
        return _Made(told.parameters, told.program, state)

    def _check_size(self, parameters: int) -> None:
        if self.max_model_size is not None and parameters > self.max_model_size:
            raise TrialError(
                f"the network has {parameters:,} parameters, more than "
                f"max_model_size={self.max_model_size:,}"
            )


@dataclass(frozen=True)
class _Made:
    """A network that can be sent out."""

    parameters: int
    program: str
    state: bytes


def _batch_size(hyperparameters: Any, otherwise: int) -> int:
    """The value of a hyperparameter ``batch_size``, as KerasTuner's users name it."""
    size = hyperparameters.values.get("batch_size", otherwise)
    try:
        return check_integer("the hyperparameter 'batch_size'", size, 1)
    except ArgumentError as error:
        raise TrialError(str(error)) from error
