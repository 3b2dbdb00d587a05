"""Builder of all trials, from hyperparameter values."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import keras

from cerebros_spark.core.errors import ArgumentError, TrialError
from cerebros_spark.core.seeding import derive_seed
from cerebros_spark.core.types import StateRef, TrialSpec
from cerebros_spark.core.validation import check_integer
from cerebros_spark.training.fused.graph.parser import NotFusableError
from cerebros_spark.training.fused.state_layout import pack_initial_state
from cerebros_spark.training.keras.checkpoint import get_initial_state
from cerebros_spark.training.keras.metrics import check_additive
from cerebros_spark.training.keras.scopes import (
    custom_object_scope,
    dtype_policy_scope,
    seeded_initializers,
)
from cerebros_spark.training.keras.serialization import (
    import_custom_modules,
    serialize_model,
    set_gradient_scale,
)
from nas.config.search_config import SearchConfig
from nas.spaces.base import Space
from nas.trial.proposal import Proposal
from nas.trial.record import TrialRecord

_Network = tuple[int, str, bytes]  # number of weights, program, initial state


@dataclass(frozen=True)
class BuiltTrial:
    """Trial whose network is built.

    Attributes:
        spec: Specification of the trial for the workers.
        checkpoint: Initial model state.
        journal_fields: Additional fields of the trial's journal record.
    """

    spec: TrialSpec
    checkpoint: bytes
    journal_fields: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class TrialBuilder:
    """Builder of a search's trials.

    Attributes:
        config: The search configuration.
        space: Search space that builds the networks.
        seed: Seed of the search.
        dtype_policy: Keras dtype policy to build with; passed because Keras stores it per thread.
        fuse: Function that marks trials to be trained together. If None, each is trained alone.
        fetch: Function that reads a model state from the store; None if no trial has a parent.
    """

    config: SearchConfig
    space: Space
    seed: int
    dtype_policy: Any = None
    fuse: Callable[[TrialSpec], TrialSpec] | None = None
    fetch: Callable[[StateRef], bytes] | None = None

    def build(
        self, name: str, index: int, proposal: Proposal, parent: TrialRecord | None = None
    ) -> BuiltTrial:
        """Build a trial from a proposal.

        Args:
            name: Name of the trial.
            index: Index of the trial in the order of proposals.
            proposal: The tuner's proposal.
            parent: Ended trial from whose stored state the new trial starts. If None, it has new
                initial weights, which depend only on the seed and the trial's name.

        Raises:
            TrialError: If the network is too large or cannot be sent to workers. Errors that the
                search space raises are passed on.
        """
        hyperparameters = proposal.hyperparameters
        seed = derive_seed(self.seed, name, "weights")
        with dtype_policy_scope(self.dtype_policy):
            with seeded_initializers(seed):
                network = self._serialize(hyperparameters)
            if network is None:
                with seeded_initializers(seed):
                    network = self._build_model(hyperparameters)
        parameters, program, checkpoint = network
        with custom_object_scope(self.config.custom_objects):
            scale = self.space.gradient_scale
        if scale != 1.0:
            program = set_gradient_scale(program, scale)
        spec = TrialSpec(
            trial_id=name,
            index=index,
            trainer="keras",
            program=program,
            seed=self.seed,
            epochs=proposal.epochs or self.config.max_epochs,
            batch_size=_get_batch_size(hyperparameters, self.config.rows_per_step),
            parameters=parameters,
            fold=proposal.fold,
            folds=self.config.folds,
            passes=self.config.passes,
        )
        if self.fuse is not None:
            with custom_object_scope(self.config.custom_objects):
                spec = self.fuse(spec)
        if parent is not None and parent.state is not None and self.fetch is not None:
            checkpoint = self.fetch(parent.state)
        return BuiltTrial(spec, checkpoint)

    @contextlib.contextmanager
    def registered_objects(self) -> Iterator[None]:
        """Register the custom objects with Keras inside a ``with`` block.

        Raises:
            TrialError: If Keras cannot find a custom object inside the block.
        """
        with (
            custom_object_scope(self.config.custom_objects),
            import_custom_modules({"imports": []}),
        ):
            yield

    def _build_model(self, hyperparameters: Any) -> _Network:
        with self.registered_objects():
            model = self.space.build(hyperparameters)
        if not isinstance(model, keras.Model):
            raise TrialError(f"build(hp) must return a keras.Model, but got {model!r}")
        parameters = model.count_params()
        self._check_size(parameters)
        with custom_object_scope(self.config.custom_objects):
            program = serialize_model(model, self.config.class_weight)
            check_additive(model)
        return parameters, program, get_initial_state(model)

    def _serialize(self, hyperparameters: Any) -> _Network | None:
        """Serialize a network without building it in Keras; return None if that is not possible."""
        with custom_object_scope(self.config.custom_objects):
            network = self.space.serialize(hyperparameters, self.config.class_weight)
        if network is None:
            return None
        self._check_size(network.parameters)
        try:
            checkpoint = pack_initial_state(network.weights, network.trainable, network.optimizer)
        except NotFusableError:
            return None  # the optimizer's state is unknown without Keras
        return network.parameters, network.program, checkpoint

    def _check_size(self, parameters: int) -> None:
        limit = self.config.model.max_model_size
        if limit is not None and parameters > limit:
            raise TrialError(
                f"the network has {parameters:,} parameters, more than max_model_size={limit:,}"
            )


def _get_batch_size(hyperparameters: Any, default: int) -> int:
    """Return the hyperparameter ``batch_size`` (KerasTuner's name for it), or else the default.

    Raises TrialError unless it is a positive integer.
    """
    size = hyperparameters.values.get("batch_size", default)
    try:
        return check_integer("the hyperparameter 'batch_size'", size, 1)
    except ArgumentError as error:
        raise TrialError(str(error)) from error
