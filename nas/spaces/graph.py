"""AutoKeras graphs as a space: blocks between inputs and heads.

AutoKeras' own ``fit`` is not used. Its graph is told shapes and losses, and then builds.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
from autokeras.graph import Graph

from nas.heads import Target


class GraphSpace:
    """Builds networks from an AutoKeras graph.

    Args:
        inputs: The input nodes.
        outputs: The output nodes, each the end of a head.
        targets: The heads, completed by the data.
        input_shapes: Shape of one row of each input.
        batch_size: Rows in a training step.
        rows: Number of training rows; with the batch size it sets AutoKeras' learning-rate
            schedules.
        epochs: Epochs of a trial.
    """

    def __init__(
        self,
        inputs: Sequence[Any],
        outputs: Sequence[Any],
        targets: Sequence[Target],
        input_shapes: Sequence[tuple[int, ...]],
        *,
        batch_size: int,
        rows: int,
        epochs: int,
    ) -> None:
        self._inputs = list(inputs)
        self._outputs = list(outputs)
        self._targets = list(targets)
        self._input_shapes = list(input_shapes)
        self._batch_size = batch_size
        self._rows = rows
        self._epochs = epochs

    def build(self, hp: Any) -> keras.Model:
        """The compiled network of the values in ``hp``."""
        # Without this the names of blocks count on, and the space grows with every build.
        keras.backend.clear_session()
        graph = Graph(inputs=self._inputs, outputs=self._outputs)
        for node, shape in zip(self._inputs, self._input_shapes, strict=True):
            node.shape = list(shape)
            node.dtype = "float32"
            node.batch_size = self._batch_size
            node.num_samples = self._rows
        for target in self._targets:
            head = target.head
            head.shape = [target.width]
            head.loss = target.loss
            head.metrics = list(target.metrics)
            if target.num_classes is not None:
                head.num_classes = target.num_classes
        graph.set_fit_args(0, epochs=self._epochs)
        return graph.build(hp)
