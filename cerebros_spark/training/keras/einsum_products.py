"""Products of ``EinsumDense`` layers that add nothing up, as plain multiplications.

TensorFlow computes every einsum by products of matrices. Where each value is only multiplied by a
weight, these are thousands of products of single numbers, and take some twenty times as long. The
weights, and what the layer computes, stay the same.
"""

from __future__ import annotations

import functools
from typing import Any

import tensorflow as tf
from keras import layers

from cerebros_spark.compat.keras import flatten_layers


def multiply_without_sums(model: Any) -> None:
    """Let the ``EinsumDense`` layers of a model that add nothing up multiply their inputs.

    Call this before the model is traced. Layers of derived classes, and quantized ones, are kept.
    """
    for layer in flatten_layers(model):
        if type(layer) is layers.EinsumDense and layer.dtype_policy.quantization_mode is None:
            axes = _find_axes(layer.equation)
            if axes is not None:
                layer.call = functools.partial(_call, layer, *axes)


def _find_axes(equation: str) -> tuple[list[int | None], list[int | None]] | None:
    """Find the axis of the input, and of the kernel, for each axis of the output.

    Returns:
        None in place of an axis to broadcast; None for an equation with sums, or with an ellipsis.
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
    """Do what ``EinsumDense.call`` does."""
    x, kernel = tf.convert_to_tensor(inputs), tf.convert_to_tensor(layer.kernel)
    if x.dtype != kernel.dtype:  # Keras converts them to a common one
        return layers.EinsumDense.call(layer, inputs)
    product = _arrange(x, x_axes) * _arrange(kernel, kernel_axes)
    if layer.bias is not None:
        product += layer.bias
    return product if layer.activation is None else layer.activation(product)


def _arrange(tensor: Any, axes: list[int | None]) -> Any:
    """Bring the axes of a tensor into order, with new ones of size 1."""
    order = [axis for axis in axes if axis is not None]
    if order != sorted(order):
        tensor = tf.transpose(tensor, order)
    for number, axis in enumerate(axes):
        if axis is None:
            tensor = tf.expand_dims(tensor, number)
    return tensor
