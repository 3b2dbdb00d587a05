"""Both ends of a network for tables: inputs with their embeddings, and heads."""

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
    """Inputs and outputs of a network, between which a family builds the rest.

    Attributes:
        inputs: Keras tensor of each input, the matrix of a table.
        fronts: Layout of each matrix.
        outputs: Settings of the outputs; a regression with mean and variance of the labels.
        loss_weights: Weight of each output's loss in the total loss.
    """

    inputs: tuple[Any, ...]
    fronts: tuple[MatrixLayout, ...]
    outputs: tuple[Output, ...]
    loss_weights: tuple[float, ...]

    @property
    def is_regression(self) -> bool:
        """Whether the first output predicts numbers."""
        return bool(self.outputs[0].mean)

    @property
    def frequencies(self) -> int:
        """Number of frequencies of each number, half the work of a step on a wide table."""
        return 16 if max(front.numbers for front in self.fronts) <= _MANY_NUMBERS else 8

    def embed(self, embedding: NumberEmbedding | None = None) -> Any:
        """Embed the codes of all inputs, and the numbers if there is an embedding; join them."""
        return join(
            [
                embed_matrix(tensor, front, embedding, f"input{i}")
                for i, (tensor, front) in enumerate(zip(self.inputs, self.fronts, strict=True))
            ]
        )

    def add_heads(self, body: Any, make: Callable[[Any, int, str], Any] | None = None) -> list[Any]:
        """Add the outputs to the last hidden layer.

        ``make(body, units, name)`` makes the values before activation, or those of a regression
        with mean 0 and variance 1; by default, with a Dense layer.
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
    """Embed the codes of a matrix, and its numbers if there is an embedding."""
    tensor = embed_codes(matrix, layout, prefix)
    if embedding is None or not layout.numbers:
        return tensor
    numbers = embed_numbers(tensor[:, : layout.numbers], layout.numbers, embedding, prefix)
    if layout.width == layout.numbers:
        return numbers
    return layers.Concatenate()([numbers, tensor[:, layout.numbers :]])


def join(tensors: Sequence[Any]) -> Any:
    """Join tensors along their last axis."""
    return tensors[0] if len(tensors) == 1 else layers.Concatenate()(list(tensors))


def _add_dense(body: Any, output: Output, name: str) -> Any:
    return layers.Dense(output.width, name=name)(body)
