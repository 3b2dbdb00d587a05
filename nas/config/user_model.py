"""What a user's own compiled network asks of the data, where there are no heads to tell."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

import keras
import keras_tuner

from cerebros_spark.core.errors import ArgumentError, TrialError
from cerebros_spark.data.checks import CLASS_LIMIT
from cerebros_spark.data.float32 import check_variation
from cerebros_spark.data.layout import default_layout, input_dtype
from cerebros_spark.data.manifest import Layout, Manifest
from cerebros_spark.training.keras.config_checks import check_layers
from cerebros_spark.training.keras.scopes import custom_object_scope, seeded_initializers
from cerebros_spark.training.keras.serialization import deserialize_model, serialize_model
from nas.config.dataset import PreparedData
from nas.data.heads import Target
from nas.metrics.labels import summarize_columns
from nas.metrics.losses import BINARY, CATEGORICAL, get_loss, get_loss_name
from nas.spaces.functional import culprit, known_inputs, unlike, without_config
from nas.spaces.user_space import OwnSpace, Source, built_anew, losses_of, suit


def matched(
    source: Source,
    custom_objects: Mapping[str, Any],
    prepared: PreparedData,
    input_shape: Any,
) -> tuple[Layout, tuple[Target, ...]]:
    """Builds a first network and holds it against the data.

    Args:
        source: What builds networks.
        custom_objects: Layers, losses and metrics that are not Keras' own, by name.
        prepared: The data.
        input_shape: Shape of one row of the input, as ``fit`` was given it; None for the columns'
            own, or the network's where the data is flat.

    Returns:
        The columns of inputs and outputs, and what the outputs are.

    Raises:
        ArgumentError: If the network can't be trained on the data, or by workers at all.
    """
    manifest = prepared.manifest
    hp = keras_tuner.HyperParameters()
    shapes = _shapes_of(source, custom_objects, hp)
    count = len(shapes) if shapes else _groups(prepared.features)
    first = _layout(prepared, count, 1, input_shape, shapes)
    dtypes = [input_dtype(manifest, group) for group in first.inputs]
    space = OwnSpace(source, first.input_shapes, dtypes, custom_objects)
    try:
        with seeded_initializers(0):
            model = space.build(hp)
    except TrialError as error:
        raise ArgumentError(str(error)) from error
    check_inputs(model, first)
    named = _chosen_names(model)
    layout = _layout(prepared, count, len(model.outputs), input_shape, shapes, labels=named)
    _check_types(model, manifest, layout)
    goals = _targets(model, manifest, layout, custom_objects)
    _check_rebuilt(model, custom_objects)
    return layout, goals


def check_inputs(model: keras.Model, layout: Layout) -> None:
    """Raises ArgumentError if the data's rows are not what the model takes."""
    for tensor, shape, group in zip(model.inputs, layout.input_shapes, layout.inputs, strict=True):
        wanted = tuple(tensor.shape[1:])
        fits = len(wanted) == len(shape) and all(
            size in (None, given) for size, given in zip(wanted, shape, strict=True)
        )
        if not fits:
            raise ArgumentError(
                f"the model's input {tensor.name!r} takes rows of shape {wanted}, but the data's "
                f"are {shape} (columns {', '.join(group)}): bind other feature_columns, give "
                "input_shape to fit(), or change the model's Input"
            )


def _chosen_names(model: keras.Model) -> list[str]:
    """The outputs' names; numbered ones where Keras has named their layers after their classes."""
    by_default = all(
        re.sub(r"_\d+$", "", name).replace("_", "") == _kind(tensor)
        for tensor, name in zip(model.outputs, model.output_names, strict=True)
    )
    if by_default:
        return [f"output_{number}" for number in range(len(model.output_names))]
    return list(model.output_names)


def _kind(tensor: Any) -> str:
    return type(tensor._keras_history.operation).__name__.lower()


def _check_types(model: keras.Model, manifest: Manifest, layout: Layout) -> None:
    """Refuses columns that would lose what they hold on their way into an input.

    Raises:
        ArgumentError: If an input takes integers, and a column has fractions.
        DataError: If an input takes float32, which is too coarse for a column.
    """
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


def _shapes_of(
    source: Source, custom_objects: Mapping[str, Any], hp: Any
) -> dict[str, tuple[Any, ...]] | None:
    """Shape of one row of each input by its name, if a network knows it without the data."""
    with seeded_initializers(0):
        try:
            model = built_anew(source, hp, custom_objects)
        except ArgumentError:
            return None  # a fixed model that gets its inputs from the data
        return known_inputs(model) if isinstance(model, keras.Model) else None


def _groups(columns: Any) -> int:
    """How many inputs the names of columns are grouped for."""
    grouped = columns is not None and any(not isinstance(each, str) for each in columns)
    return len(columns) if grouped else 1


def _layout(
    prepared: PreparedData,
    inputs: int,
    outputs: int,
    input_shape: Any,
    shapes: Mapping[str, tuple[Any, ...]] | None,
    labels: Sequence[str] | None = None,
) -> Layout:
    """The columns of inputs and outputs; of inputs alone without the outputs' names."""

    def made(shape: Any) -> Layout:
        return default_layout(
            prepared.manifest,
            inputs=inputs,
            outputs=outputs,
            feature_columns=prepared.features,
            label_columns=None if labels is None else prepared.labels,
            input_shape=shape,
            input_names=list(shapes or ()),
            output_names=labels or (),
        )

    layout = made(input_shape)
    if input_shape is not None or not shapes:
        return layout
    # Flat rows take the shape of an input that has as many elements, as an image's.
    reshaped = [
        wanted if len(shape) == 1 and _same_size(wanted, shape) else shape
        for wanted, shape in zip(shapes.values(), layout.input_shapes, strict=True)
    ]
    return layout if reshaped == list(layout.input_shapes) else made(reshaped)


def _same_size(wanted: Sequence[Any], shape: Sequence[int]) -> bool:
    return None not in wanted and bool(wanted) and math.prod(wanted) == math.prod(shape)


def _targets(
    model: keras.Model, manifest: Manifest, layout: Layout, custom_objects: Mapping[str, Any]
) -> tuple[Target, ...]:
    losses = [get_loss(loss) for loss in losses_of(model, custom_objects)]
    found = []
    for number, group in enumerate(layout.outputs):
        name, shape = model.output_names[number], tuple(model.outputs[number].shape[1:])
        columns = [manifest.column(column) for column in group]
        width = sum(column.width for column in columns)
        dtypes = {column.dtype for column in columns}
        _check_output(name, shape, group, width, losses[number])
        if _is_sparse(losses[number]):
            _check_classes(name, shape, columns)
        found.append(
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
                sparse=_is_sparse(losses[number]),
                probabilities=get_loss_name(losses[number]) in (BINARY | CATEGORICAL),
                labels=summarize_columns(columns),
            )
        )
    suit(model, [goal.labels for goal in found if goal.labels], custom_objects)
    return tuple(found)


def _check_output(
    name: str, shape: tuple[Any, ...], group: Sequence[str], width: int, loss: Any
) -> None:
    labels = f"the labels ({', '.join(group)}) are rows of shape {(width,)}"
    if len(shape) != 1 or shape[0] is None:
        raise ArgumentError(
            f"the model's output {name!r} has rows of shape {shape}, but {labels}: an output must "
            "be a row of known length; end the model in Flatten or a Dense layer"
        )
    # What a loss of the user's own makes of other labels is its own matter.
    own = loss is None or not type(loss).__module__.startswith("keras.") or _is_wrapped(loss)
    if shape[0] != width and not own and not _is_sparse(loss):
        hint = " (for class numbers: sparse_categorical_crossentropy)" if width == 1 else ""
        raise ArgumentError(
            f"the model's output {name!r} has rows of shape {shape}, but {labels}: bind other "
            f"label_columns, or change the last layer or the loss{hint}"
        )


def _check_classes(name: str, shape: tuple[Any, ...], columns: Sequence[Any]) -> None:
    if len(columns) > 1 or columns[0].shape:
        return  # vectors, and several columns, are no class numbers: the check of losses says so
    classes = columns[0].classes
    if classes is None and columns[0].dtype == "float32":
        raise ArgumentError(
            f"the label column {columns[0].name!r} holds fractions, or more than {CLASS_LIMIT:,} "
            f"different values, but the model's output {name!r} takes class numbers: give integers"
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
    """Whether a loss is a function of the user's that Keras put into a class of its own."""
    function = getattr(loss, "fn", None)
    return function is not None and not function.__module__.startswith("keras.")


def _check_rebuilt(model: keras.Model, custom_objects: Mapping[str, Any]) -> None:
    """Rebuild the network from its configuration, as workers do, and compare the two.

    Raises:
        ArgumentError: If it can't be made again, or not the same.
    """
    with custom_object_scope(custom_objects):
        try:
            again = deserialize_model(serialize_model(model))
        except TrialError as error:
            raise ArgumentError(str(error)) from error
        except Exception as error:
            raise ArgumentError(
                f"workers can't make the model {model.name!r} again: {culprit(model, error)}"
            ) from error
    before = [(tuple(v.shape), v.dtype) for v in model.variables]
    after = [(tuple(v.shape), v.dtype) for v in again.variables]
    if before != after:
        silent = without_config(model)
        told = f"; {', '.join(silent)} has no get_config()" if silent else ""
        raise ArgumentError(
            f"made again from its configuration, the model {model.name!r} has other weights "
            f"({len(after)} instead of {len(before)}, or of other shapes): see to get_config() and "
            f"build() of its own layers and models{told}"
        )
    lost = unlike(model, again)
    if lost is not None:
        raise ArgumentError(
            f"workers can't make the model {model.name!r} again: {lost}; write get_config()"
        )
    check_layers(model, again)
    for mine, other in zip(model.variables, again.variables, strict=True):
        if mine.trainable != other.trainable:
            verb = "trains" if other.trainable else "freezes"
            raise ArgumentError(
                f"made again from its configuration, the model {model.name!r} {verb} the weight "
                f"{mine.path!r}, other than now: set trainable in the __init__ of its own layers "
                "and models, or write it into their get_config()"
            )
