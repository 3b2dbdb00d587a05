"""Resolution of data to the inputs and targets of user-built networks, which have no heads."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

import keras
import keras_tuner

from cerebros_spark.compat.keras import keras_history
from cerebros_spark.core.errors import ArgumentError, TrialError
from cerebros_spark.data.checks import CLASS_LIMIT
from cerebros_spark.data.float32 import check_variation
from cerebros_spark.data.layout import default_layout, input_dtype
from cerebros_spark.data.manifest import Layout, Manifest
from cerebros_spark.training.keras.config_checks import check_layers
from cerebros_spark.training.keras.scopes import custom_object_scope, seeded_initializers
from cerebros_spark.training.keras.serialization import deserialize_model, serialize_model
from nas.config.dataset import PreparedData, SearchData
from nas.data.heads import Target
from nas.metrics.labels import summarize_columns
from nas.metrics.losses import BINARY, CATEGORICAL, get_loss, get_loss_name
from nas.spaces.functional import (
    describe_difference,
    explain_rebuild_failure,
    find_classes_without_config,
    get_input_shapes,
)
from nas.spaces.user_space import (
    UserBuilder,
    UserSpace,
    adapt_to_labels,
    build_in_new_session,
    get_losses,
)


def resolve_user_model(
    builder: UserBuilder,
    custom_objects: Mapping[str, Any],
    prepared: PreparedData,
    input_shape: Any,
) -> SearchData:
    """Build the network once, and return the data with that network's inputs and targets.

    If ``input_shape`` is None, the columns determine the shape of a row. Flat rows are reshaped if
    the network declares an input with the same number of elements.

    Raises ArgumentError if the network cannot be trained on the data, or workers cannot rebuild it.
    """
    manifest = prepared.manifest
    hyperparameters = keras_tuner.HyperParameters()
    shapes = _get_declared_shapes(builder, custom_objects, hyperparameters)
    inputs = len(shapes) if shapes else _count_groups(prepared.features)
    first = _make_layout(prepared, inputs, 1, input_shape, shapes)
    dtypes = [input_dtype(manifest, group) for group in first.inputs]
    space = UserSpace(builder, first.input_shapes, dtypes, custom_objects)
    try:
        with seeded_initializers(0):
            model = space.build(hyperparameters)
    except TrialError as error:
        raise ArgumentError(str(error)) from error
    _check_inputs(model, first)
    names = _get_output_names(model)
    layout = _make_layout(prepared, inputs, len(model.outputs), input_shape, shapes, names)
    _check_input_types(model, manifest, layout)
    targets = _make_targets(model, manifest, layout, custom_objects)
    _check_rebuilt(model, custom_objects)
    return SearchData(manifest, layout, targets)


def _get_declared_shapes(
    builder: UserBuilder, custom_objects: Mapping[str, Any], hyperparameters: Any
) -> dict[str, tuple[Any, ...]] | None:
    """Return the row shape of each input by name; None if the network does not declare inputs."""
    with seeded_initializers(0):
        try:
            model = build_in_new_session(builder, hyperparameters, custom_objects)
        except ArgumentError:
            return None  # a fixed model that gets its inputs from the data
        return get_input_shapes(model) if isinstance(model, keras.Model) else None


def _count_groups(columns: Any) -> int:
    """Return the number of column-name groups (one per input); 1 if the names are not grouped."""
    grouped = columns is not None and any(not isinstance(each, str) for each in columns)
    return len(columns) if grouped else 1


def _make_layout(
    prepared: PreparedData,
    inputs: int,
    outputs: int,
    input_shape: Any,
    shapes: Mapping[str, tuple[Any, ...]] | None,
    output_names: Sequence[str] | None = None,
) -> Layout:
    """Return the column layout; if ``output_names`` is None, ignore the bound label names."""

    def make(shape: Any) -> Layout:
        return default_layout(
            prepared.manifest,
            inputs=inputs,
            outputs=outputs,
            feature_columns=prepared.features,
            label_columns=None if output_names is None else prepared.labels,
            input_shape=shape,
            input_names=list(shapes or ()),
            output_names=output_names or (),
        )

    layout = make(input_shape)
    if input_shape is not None or not shapes:
        return layout
    # Flat rows take the shape of an input with as many elements, such as an image.
    reshaped = [
        declared if len(shape) == 1 and _has_same_size(declared, shape) else shape
        for declared, shape in zip(shapes.values(), layout.input_shapes, strict=True)
    ]
    return layout if reshaped == list(layout.input_shapes) else make(reshaped)


def _has_same_size(declared: Sequence[Any], shape: Sequence[int]) -> bool:
    return None not in declared and bool(declared) and math.prod(declared) == math.prod(shape)


def _check_inputs(model: keras.Model, layout: Layout) -> None:
    """Raise ArgumentError unless the shapes of the data's rows match the model's inputs."""
    for tensor, shape, group in zip(model.inputs, layout.input_shapes, layout.inputs, strict=True):
        expected = tuple(tensor.shape[1:])
        fits = len(expected) == len(shape) and all(
            size in (None, actual) for size, actual in zip(expected, shape, strict=True)
        )
        if not fits:
            raise ArgumentError(
                f"the model's input {tensor.name!r} takes rows of shape {expected}, but the data's "
                f"are {shape} (columns {', '.join(group)}): bind other feature_columns, give "
                "input_shape to fit(), or change the model's Input"
            )


def _get_output_names(model: keras.Model) -> list[str]:
    """Return the output names, or ``output_0`` and so on if Keras generated all of them."""
    by_default = all(
        re.sub(r"_\d+$", "", name).replace("_", "") == _get_operation_name(tensor)
        for tensor, name in zip(model.outputs, model.output_names, strict=True)
    )
    if by_default:
        return [f"output_{number}" for number in range(len(model.output_names))]
    return list(model.output_names)


def _get_operation_name(tensor: Any) -> str:
    return type(keras_history(tensor).operation).__name__.lower()


def _check_input_types(model: keras.Model, manifest: Manifest, layout: Layout) -> None:
    """Raise an error for fractions in integer inputs, or values that float32 cannot distinguish."""
    for tensor, group in zip(model.inputs, layout.inputs, strict=True):
        columns = [manifest.column(name) for name in group]
        if "int" not in str(tensor.dtype):
            check_variation(columns)
            continue
        for column in columns:
            if column.dtype == "float32":
                raise ArgumentError(
                    f"the model's input {tensor.name!r} takes integers ({tensor.dtype}), but the "
                    f"column {column.name!r} holds fractional numbers: cast it to integers, or "
                    "make the input float32"
                )


def _make_targets(
    model: keras.Model, manifest: Manifest, layout: Layout, custom_objects: Mapping[str, Any]
) -> tuple[Target, ...]:
    targets = []
    losses = [get_loss(loss) for loss in get_losses(model, custom_objects)]
    for number, (group, loss) in enumerate(zip(layout.outputs, losses, strict=True)):
        name, shape = model.output_names[number], tuple(model.outputs[number].shape[1:])
        columns = [manifest.column(column) for column in group]
        width = sum(column.width for column in columns)
        dtypes = {column.dtype for column in columns}
        _check_output(name, shape, group, width, loss)
        if _is_sparse(loss):
            _check_classes(name, shape, columns)
        targets.append(
            Target(
                head=None,
                name=name,
                width=math.prod(shape),
                num_classes=None,
                activation="",
                loss=None,
                metrics=(),
                label_shape=(width,),
                label_dtype=dtypes.pop() if len(dtypes) == 1 else "float32",
                sparse=_is_sparse(loss),
                probabilities=get_loss_name(loss) in (BINARY | CATEGORICAL),
                labels=summarize_columns(columns),
            )
        )
    adapt_to_labels(model, [target.labels for target in targets if target.labels], custom_objects)
    return tuple(targets)


def _check_output(
    name: str, shape: tuple[Any, ...], group: Sequence[str], width: int, loss: Any
) -> None:
    labels = f"the labels ({', '.join(group)}) are rows of shape {(width,)}"
    if len(shape) != 1 or shape[0] is None:
        raise ArgumentError(
            f"the model's output {name!r} has rows of shape {shape}, but {labels}: an output must "
            "be a row of known length; end the model in Flatten or a Dense layer"
        )
    # A custom loss may take labels of another shape.
    is_custom = loss is None or not type(loss).__module__.startswith("keras.") or _is_wrapped(loss)
    if shape[0] != width and not is_custom and not _is_sparse(loss):
        hint = " (for class indices: sparse_categorical_crossentropy)" if width == 1 else ""
        raise ArgumentError(
            f"the model's output {name!r} has rows of shape {shape}, but {labels}: bind other "
            f"label_columns, or change the last layer or the loss{hint}"
        )


def _check_classes(name: str, shape: tuple[Any, ...], columns: Sequence[Any]) -> None:
    if len(columns) > 1 or columns[0].shape:
        return  # the check of losses rejects them
    classes = columns[0].classes
    if classes is None and columns[0].dtype == "float32":
        raise ArgumentError(
            f"the label column {columns[0].name!r} holds fractions, or more than {CLASS_LIMIT:,} "
            f"different values, but the model's output {name!r} takes class indices: give integers"
        )
    if classes and not 0 <= classes[0] <= classes[-1] < shape[0]:
        wrong = classes[0] if classes[0] < 0 else classes[-1]
        raise ArgumentError(
            f"the label column {columns[0].name!r} holds the class {wrong}, but the model's output "
            f"{name!r} has {shape[0]} classes, 0 … {shape[0] - 1}"
        )


def _is_sparse(loss: Any) -> bool:
    return isinstance(loss, keras.losses.SparseCategoricalCrossentropy)


def _is_wrapped(loss: Any) -> bool:
    """Return whether a loss is a user's function that Keras wrapped in a class."""
    function = getattr(loss, "fn", None)
    return function is not None and not function.__module__.startswith("keras.")


def _check_rebuilt(model: keras.Model, custom_objects: Mapping[str, Any]) -> None:
    """Raise ArgumentError unless the network can be rebuilt identically from its configuration."""
    with custom_object_scope(custom_objects):
        try:
            rebuilt = deserialize_model(serialize_model(model))
        except TrialError as error:
            raise ArgumentError(str(error)) from error
        except Exception as error:
            reason = explain_rebuild_failure(model, error)
            raise ArgumentError(
                f"workers cannot rebuild the model {model.name!r}: {reason}"
            ) from error
    before = [(tuple(v.shape), v.dtype) for v in model.variables]
    after = [(tuple(v.shape), v.dtype) for v in rebuilt.variables]
    if before != after:
        silent = find_classes_without_config(model)
        hint = f"; {', '.join(silent)} has no get_config()" if silent else ""
        raise ArgumentError(
            f"rebuilt from its configuration, the model {model.name!r} has other weights "
            f"({len(after)} instead of {len(before)}, or of other shapes): check get_config() and "
            f"build() of its custom layers and models{hint}"
        )
    lost = describe_difference(model, rebuilt)
    if lost is not None:
        raise ArgumentError(
            f"workers cannot rebuild the model {model.name!r}: {lost}; write get_config()"
        )
    check_layers(model, rebuilt)
    for variable, other in zip(model.variables, rebuilt.variables, strict=True):
        if variable.trainable != other.trainable:
            verb = "trains" if other.trainable else "freezes"
            raise ArgumentError(
                f"rebuilt from its configuration, the model {model.name!r} {verb} the weight "
                f"{variable.path!r}, unlike now: set trainable in the __init__ of its custom "
                "layers and models, or write it into their get_config()"
            )
