"""Conversion of an ensemble to one functional Keras model of built-in layers and operations."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import keras
from keras import layers, ops

from cerebros_spark.storage.store import Store
from cerebros_spark.training.keras.checkpoint import write_weights
from cerebros_spark.training.keras.member_losses import remove_member_losses
from cerebros_spark.training.keras.scopes import custom_object_scope
from cerebros_spark.training.keras.serialization import import_custom_modules
from nas.ensemble.calibration import EPSILON
from nas.ensemble.ensemble import Ensemble
from nas.results.trained_network import TrainedNetwork
from nas.trial.record import TrialRecord


def load_final_network(
    store: Store,
    trials: Sequence[TrialRecord],
    ensemble: Ensemble | None,
    best: TrialRecord,
    custom_objects: Mapping[str, Any] | None = None,
) -> TrainedNetwork:
    """Load the network that a result uses for predictions.

    Args:
        store: Store that contains the weights.
        trials: Trials of the search.
        ensemble: The ensemble. If None, the best trial's network is loaded instead.
        best: The best trial.
        custom_objects: Custom layers, losses and metrics by name.

    Raises:
        StoreError: If weights cannot be read.
    """
    if ensemble is None:
        return TrainedNetwork.from_record(store, best)
    networks = {
        trial.trial_id: TrainedNetwork.from_record(store, trial)
        for trial in trials
        if trial.trial_id in ensemble.trials
    }
    model = build_ensemble_model(ensemble, networks, custom_objects)
    with custom_object_scope(custom_objects):
        return TrainedNetwork.from_model(model)


def build_ensemble_model(
    ensemble: Ensemble,
    networks: Mapping[str, TrainedNetwork],
    custom_objects: Mapping[str, Any] | None = None,
) -> keras.Model:
    """Build an ensemble as one Keras model, compiled with the losses and metrics of its networks.

    Args:
        ensemble: The ensemble.
        networks: Trained networks by trial name.
        custom_objects: Custom layers, losses and metrics by name.
    """
    with custom_object_scope(custom_objects):
        models = {
            trial: load_network(networks[trial], f"member_{number}")
            for number, trial in enumerate(ensemble.trials)
        }
        first = next(iter(models.values()))
        inputs = [
            keras.Input(each.shape[1:], dtype=each.dtype, name=each.name) for each in first.inputs
        ]
        given = inputs[0] if len(inputs) == 1 else inputs
        totals: list[Any] = []
        for member in ensemble.members:
            for trial in member.trials:
                outputs = models[trial](given)
                outputs = outputs if isinstance(outputs, list) else [outputs]
                weight = member.weight / len(member.trials)
                weighted = [each * weight for each in outputs]
                totals = (
                    [a + b for a, b in zip(totals, weighted, strict=True)] if totals else weighted
                )
        finished = [
            _finish(total, name, ensemble, index)
            for index, (total, name) in enumerate(zip(totals, first.output_names, strict=True))
        ]
        model = keras.Model(inputs, finished if len(finished) > 1 else finished[0], name="ensemble")
        compiled = json.loads(networks[ensemble.trials[0]].program)["compile"]
        model.compile_from_config({**compiled, "optimizer": "adam"})
    return model


def load_network(network: TrainedNetwork, name: str) -> keras.Model:
    """Load a network as an uncompiled Keras model that is called ``name``.

    Keras would save a nested model's compile configuration, but it cannot load this package's
    learning rate schedules.
    """
    program = json.loads(remove_member_losses(network.program))
    program["architecture"]["config"]["name"] = name
    program["architecture"].pop("compile_config", None)
    with import_custom_modules(program):
        model: keras.Model = keras.models.model_from_json(json.dumps(program["architecture"]))
    write_weights(model, network.checkpoint)
    return model


def _finish(total: Any, name: str, ensemble: Ensemble, index: int) -> Any:
    """Calibrate an output or clip it to the range of its labels, and name it ``name``."""
    bounds: Sequence[tuple[float, float]] = ensemble.bounds[index] if ensemble.bounds else ()
    if ensemble.temperature != 1.0:
        clipped = ops.clip(total, EPSILON, 1 - EPSILON)
        if total.shape[-1] == 1:
            odds = ops.log(clipped) - ops.log(1 - clipped)
            total = ops.sigmoid(odds / ensemble.temperature)
        else:
            total = ops.softmax(ops.log(clipped) / ensemble.temperature)
    elif bounds:
        # One by one, because Keras saves no arrays of bounds.
        clipped = [
            ops.clip(total[:, number : number + 1], low, high)
            for number, (low, high) in enumerate(bounds)
        ]
        total = clipped[0] if len(clipped) == 1 else ops.concatenate(clipped, axis=-1)
    return layers.Activation("linear", name=name, dtype=total.dtype)(total)
