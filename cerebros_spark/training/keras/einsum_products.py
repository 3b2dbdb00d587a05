"""Elementwise multiplication for ``EinsumDense`` layers whose equations contract no axis.

TensorFlow computes every einsum by matrix products. If each value is only multiplied by a weight,
these are thousands of 1 × 1 products, which take about twenty times as long as one elementwise
multiplication. The layer's weights and results stay the same.
"""

from __future__ import annotations

import functools
from typing import Any

import tensorflow as tf
from keras import layers

from cerebros_spark.compat.keras import flatten_layers


def multiply_without_sums(model: Any) -> None:
    """Make a model's ``EinsumDense`` layers multiply elementwise if they contract no axis.

    Call this before the model is traced. Quantized layers and those of derived classes do not
    change.
    """
    for layer in flatten_layers(model):
        if type(layer) is layers.EinsumDense and layer.dtype_policy.quantization_mode is None:
            axes = _find_axes(layer.equation)
            if axes is not None:
                layer.call = functools.partial(_call, layer, *axes)


def _find_axes(equation: str) -> tuple[list[int | None], list[int | None]] | None:
    """Return the input axis and the kernel axis that correspond to each output axis.

    In these lists, None is an axis to broadcast. The result is None if the equation contracts an
    axis or has an ellipsis.
    """
    operands, _, output = equation.replace(" ", "").partition("->")
    names = [*operands.split(","), output]
    if "." in equation or any(len(set(each)) < len(each) for each in names):
        return None
    if len(names) != 3 or not set(names[0] + names[1]) <= set(output):
        return None
    x, kernel = (
        [each.index(name) if name in each else None for name in output] for each in names[:2]
    )
    return x, kernel


def _call(
    layer: Any,
    x_axes: list[int | None],
    kernel_axes: list[int | None],
    inputs: Any,
    training: Any = None,
) -> Any:
    """Apply a layer that contracts no axis; replaces ``EinsumDense.call``."""
    x, kernel = tf.convert_to_tensor(inputs), tf.convert_to_tensor(layer.kernel)
    if x.dtype != kernel.dtype:  # Keras converts them to a common one
        return layers.EinsumDense.call(layer, inputs)
    product = _arrange(x, x_axes) * _arrange(kernel, kernel_axes)
    if layer.bias is not None:
        product += layer.bias
    return product if layer.activation is None else layer.activation(product)


def _arrange(tensor: Any, axes: list[int | None]) -> Any:
    """Transpose a tensor to the order of ``axes``, and insert an axis of size 1 for each None."""
    order = [axis for axis in axes if axis is not None]
    if order != sorted(order):
        tensor = tf.transpose(tensor, order)
    for number, axis in enumerate(axes):
        if axis is None:
            tensor = tf.expand_dims(tensor, number)
    return tensor
