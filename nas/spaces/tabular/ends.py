"""Input and output layers of networks for tables: embeddings and heads."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import keras
from keras import layers

from cerebros_spark.data.table.schema import MatrixLayout
from nas.spaces.cerebros.networks import Output
from nas.spaces.front import embed_codes
from nas.spaces.tabular.embeddings import NumberEmbedding, embed_numbers

_MANY_NUMBERS = 24


@dataclass(frozen=True)
class NetworkEnds:
    """Input tensors and output settings of a network, between which a family builds its layers.

    Attributes:
        inputs: Keras tensor of each input, a table's matrix of shape ``(rows, width)``.
        fronts: Layout of each input's matrix.
        outputs: Settings of the outputs. For a regression, they include the labels' mean and
            variance.
        loss_weights: Weight of each output's loss in the total loss.
    """

    inputs: tuple[Any, ...]
    fronts: tuple[MatrixLayout, ...]
    outputs: tuple[Output, ...]
    loss_weights: tuple[float, ...]

    @property
    def is_regression(self) -> bool:
        """Whether the first output is a regression."""
        return bool(self.outputs[0].mean)

    @property
    def frequencies(self) -> int:
        """Number of cosines that embed a number: 16, or 8 to save time if there are many."""
        return 16 if max(front.numbers for front in self.fronts) <= _MANY_NUMBERS else 8

    def embed(self, embedding: NumberEmbedding | None = None) -> Any:
        """Embed the codes (and the numbers, if ``embedding`` is given); concatenate all inputs."""
        return join(
            [
                embed_matrix(tensor, front, embedding, f"input{i}")
                for i, (tensor, front) in enumerate(zip(self.inputs, self.fronts, strict=True))
            ]
        )

    def add_heads(self, body: Any, make: Callable[[Any, int, str], Any] | None = None) -> list[Any]:
        """Add the heads to ``body``, the last hidden layer's output, and return their outputs.

        ``make(body, units, name)`` returns a head's raw values: before the activation or, for a
        regression, before they are scaled to the labels' mean and variance. If None, a Dense layer
        is used.
        """
        heads = []
        for output in self.outputs:
            name = f"{output.name}_raw"
            values = make(body, output.width, name) if make else _add_dense(body, output, name)
            if output.mean:
                scale = [math.sqrt(v) if v > 0 else 1.0 for v in output.variance]
                single = output.width == 1
                layer = layers.Rescaling(
                    scale[0] if single else scale,
                    output.mean[0] if single else list(output.mean),
                    name=output.name,
                    dtype=keras.config.floatx(),
                )
            else:
                layer = layers.Activation(
                    output.activation, name=output.name, dtype=keras.config.floatx()
                )
            heads.append(layer(values))
        return heads


def embed_matrix(
    matrix: Any, layout: MatrixLayout, embedding: NumberEmbedding | None, prefix: str
) -> Any:
    """Embed a matrix's codes and, unless ``embedding`` is None, its numbers."""
    tensor = embed_codes(matrix, layout, prefix)
    if embedding is None or not layout.numbers:
        return tensor
    numbers = embed_numbers(tensor[:, : layout.numbers], layout.numbers, embedding, prefix)
    if layout.width == layout.numbers:
        return numbers
    return layers.Concatenate()([numbers, tensor[:, layout.numbers :]])


def join(tensors: Sequence[Any]) -> Any:
    """Concatenate tensors along their last axis."""
    return tensors[0] if len(tensors) == 1 else layers.Concatenate()(list(tensors))


def _add_dense(body: Any, output: Output, name: str) -> Any:
    return layers.Dense(output.width, name=name)(body)
