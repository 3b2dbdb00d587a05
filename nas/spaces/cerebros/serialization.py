"""Networks as their programs and initial weights, without building them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np

from cerebros_spark.training.keras.metrics import check_additive
from cerebros_spark.training.keras.serialization import serialize_model
from nas.spaces.cerebros.recorder import Recorded, Recorder


@dataclass(frozen=True)
class Written:
    """A network that was not built.

    Attributes:
        program: What ``serialize_model`` would write of it.
        weights: Its initial weights, in Keras' order.
        trainable: For each of them whether it is trained.
        optimizer: Its optimizer's configuration.
        parameters: How many weights it has.
    """

    program: str
    weights: tuple[np.ndarray, ...]
    trainable: tuple[bool, ...]
    optimizer: Mapping[str, Any]
    parameters: int


class Frame:
    """What all networks of a space have in common, as Keras describes it.

    Args:
        model: A compiled network without hidden units.
        flat: The tensors of it that units may read.
        class_weight: As in :func:`~cerebros_spark.training.keras.serialization.serialize_model`.

    Raises:
        TrialError, ArgumentError: If it can't be sent out, or a metric does not add up.
    """

    def __init__(
        self, model: keras.Model, flat: Sequence[Any], class_weight: Mapping[int, float] | None
    ) -> None:
        self._described = json.loads(serialize_model(model, class_weight))
        check_additive(model)
        #: What units read of the inputs.
        self.inputs = [
            Recorded(each._keras_history.operation.name, tuple(each.shape), each.dtype)
            for each in flat
        ]

    def recorder(self) -> Recorder:
        """What takes down the layers of a network: it knows those that prepare the inputs."""
        return Recorder(self._described["architecture"]["config"]["layers"])

    def written(self, recorder: Recorder, outputs: Sequence[Recorded], optimizer: Any) -> Written:
        """The network that was taken down.

        Args:
            recorder: What has taken it down.
            outputs: What its output layers give.
            optimizer: Its optimizer.
        """
        names = [output.layer for output in outputs]
        layers = recorder.described(names)
        told = json.loads(json.dumps(keras.optimizers.serialize(optimizer)))
        # Keras counts optimizers up in each process.
        told["config"]["name"] = self._described["compile"]["optimizer"]["config"]["name"]
        architecture = self._described["architecture"]
        config = {
            **architecture["config"],
            "layers": layers,
            "output_layers": [[name, 0, 0] for name in names],
        }
        program = {
            **self._described,
            "architecture": {
                **architecture,
                "config": config,
                "compile_config": {**architecture["compile_config"], "optimizer": told},
            },
            "compile": {**self._described["compile"], "optimizer": told},
        }
        weights: list[np.ndarray] = []
        trainable: list[bool] = []
        for layer in layers:
            for number, weight in enumerate(recorder.weights.get(layer["name"], ())):
                weights.append(weight)
                trainable.append(number < 2)  # then come moving statistics
        return Written(
            json.dumps(program),
            tuple(weights),
            tuple(trainable),
            told,
            sum(weight.size for weight in weights),
        )
