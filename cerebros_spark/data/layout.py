"""Assignment of columns to the inputs and outputs of a model."""

from __future__ import annotations

import math
import operator
import re
from collections.abc import Sequence
from typing import Any

from cerebros_spark.core.errors import ArgumentError
from cerebros_spark.data.checks import flatten
from cerebros_spark.data.manifest import Layout, Manifest
from cerebros_spark.data.table.schema import TableSchema

Columns = Sequence[str | Sequence[str]]
Groups = tuple[tuple[str, ...], ...]

# Numbered names that Keras, AutoKeras and this package give to unnamed inputs and outputs.
_NUMBERED = re.compile(
    r"((features|target)_\d+)"
    r"|((\w+_)?input(_layer)?|keras_tensor|(classification|regression|plain)_head|output)(_\d+)?"
)


def default_layout(
    manifest: Manifest,
    *,
    inputs: int = 1,
    outputs: int = 1,
    feature_columns: Columns | None = None,
    label_columns: Columns | None = None,
    input_shape: Sequence[int] | Sequence[Sequence[int] | None] | None = None,
    input_names: Sequence[str] = (),
    output_names: Sequence[str] = (),
) -> Layout:
    """Distribute the columns over the inputs and outputs of a model.

    A single input gets all features, concatenated. If there are as many inputs as features, each
    gets the feature of the same name, as in Keras. If all inputs or all columns have default names
    (which Keras and AutoKeras number), they are matched by position. Otherwise the names must be
    grouped in lists, one per input. The same holds for labels and outputs.

    Args:
        manifest: Description of the prepared data.
        inputs: Number of model inputs.
        outputs: Number of model outputs.
        feature_columns: Names of the features, or lists of names (one list per input). If None,
            all features in the manifest are used.
        label_columns: Names of the labels, or lists of names (one list per output). If None, all
            labels in the manifest are used.
        input_shape: Shape of one row of the input, without the batch dimension; for several inputs
            a list with one shape per input. If a shape is None, a single column keeps its shape,
            and concatenated columns have the shape ``(total width,)``.
        input_names: Names of the model's inputs; empty if they are unknown.
        output_names: Names of the model's outputs; empty if they are unknown.

    Returns:
        The layout.

    Raises:
        ArgumentError: If the columns cannot be distributed, if column and input names differ,
            or if a shape does not have as many elements as its columns.
    """
    features = _group(manifest, "feature", feature_columns, inputs, input_names)
    labels = _group(manifest, "label", label_columns, outputs, output_names)
    shapes = _split_shapes(input_shape, len(features))
    return Layout(
        features,
        labels,
        tuple(
            _resolve_shape(manifest, group, shape)
            for group, shape in zip(features, shapes, strict=True)
        ),
    )


def input_dtype(manifest: Manifest, names: Sequence[str]) -> str:
    """Return the NumPy dtype name of the model input or output formed from the columns ``names``.

    A single column keeps its dtype; several columns, and features of a raw table, become float32.
    """
    first = manifest.column(names[0])
    if manifest.table is not None and first.role == "feature":
        return "float32"
    return first.dtype if len(names) == 1 else "float32"


def _group(
    manifest: Manifest, role: str, columns: Columns | None, count: int, end_names: Sequence[str]
) -> Groups:
    """Group the column names of a role: one group for each of ``count`` inputs or outputs."""
    argument = f"{role}_columns"
    end = "input" if role == "feature" else "output"
    existing = tuple(column.name for column in manifest.columns if column.role == role)
    if role == "feature" and columns is not None and manifest.table is not None:
        columns = _find_used(manifest.table, columns)
    names = existing if columns is None else flatten(columns, argument)
    for name in names:
        if name not in existing:
            raise ArgumentError(f"{argument} has {name!r}, but the data has {', '.join(existing)}")
    if columns is not None and any(not isinstance(group, str) for group in columns):
        groups = tuple((g,) if isinstance(g, str) else tuple(g) for g in columns)
        if len(groups) != count or not all(groups):
            raise ArgumentError(
                f"{argument} has {len(groups)} groups, but the model has {count} {end}s: give one "
                "list of at least one name for each"
            )
        return groups
    if count == 1:
        return (names,)
    if count == len(names):
        return tuple((name,) for name in _match_names(names, end_names, end, argument))
    advice = f"group {argument} in {count} lists, one for each {end}"
    if set(names) & set(end_names):
        raise _make_unmatched_error(names, end_names, end, advice)
    raise ArgumentError(
        f"the model has {count} {end}s, but {argument} has {len(names)} columns "
        f"({', '.join(names)}): {advice}"
    )


def _find_used(table: TableSchema, columns: Columns) -> Columns:
    """Omit the columns that the table does not use, and replace structs by their fields.

    Raises:
        ArgumentError: If the table uses no column of a group.
    """
    reasons = {each.name: each.use for each in table.left_out}
    known = [*reasons, *(column.name for column in table.columns)]

    def expand(name: str) -> list[str]:
        fields = [each for each in known if each.startswith(f"{name}.")]
        names = [name] if name in known or not fields else fields
        return [each for each in names if each not in reasons]

    used: list[str | list[str]] = []
    for group in columns:
        if isinstance(group, str):
            used += expand(group)
            continue
        names = [each for name in group for each in expand(name)]
        if not names:
            shown = "; ".join(f"{name!r}: {reasons.get(name, 'unknown')}" for name in group)
            raise ArgumentError(f"an input has no columns, because all are left out ({shown})")
        used.append(names)
    return used


def _match_names(
    names: Sequence[str], end_names: Sequence[str], end: str, argument: str
) -> Sequence[str]:
    """Match columns with the inputs or outputs of the same names, and return them in that order.

    If either side has only default names, columns keep their order. If neither rule applies, raise
    ArgumentError.
    """
    if sorted(end_names) == sorted(names):
        return end_names
    is_numbered = all(map(_NUMBERED.fullmatch, end_names)) or all(map(_NUMBERED.fullmatch, names))
    if is_numbered and not set(names) & set(end_names):
        return names
    groups = [[name] for name in names]
    advice = f"group {argument} in lists in the order of the {end}s: {groups}"
    raise _make_unmatched_error(names, end_names, end, advice)


def _make_unmatched_error(
    names: Sequence[str], end_names: Sequence[str], end: str, advice: str
) -> ArgumentError:
    missing = [repr(name) for name in end_names if name not in names]
    unknown = [repr(name) for name in names if name not in end_names]
    problems = [f"there is no column {', '.join(missing)}"] if missing else []
    if unknown:
        problems.append(f"the columns {', '.join(unknown)} are named like no {end}")
    return ArgumentError(
        f"the model has the {end}s {', '.join(map(repr, end_names))}, but {'; '.join(problems)}. "
        f"Give one column of each name, or {advice}"
    )


def _split_shapes(
    input_shape: Sequence[int] | Sequence[Sequence[int] | None] | None, count: int
) -> list[tuple[int, ...] | None]:
    """Return one shape for each input; None if the input's shape is not given."""
    if input_shape is None:
        return [None] * count
    is_one = all(hasattr(size, "__index__") for size in input_shape)
    shapes: list[Any] = [input_shape] if is_one else list(input_shape)
    if len(shapes) != count:
        raise ArgumentError(
            f"input_shape must have a shape for each of the {count} inputs, but got {input_shape!r}"
        )
    try:
        return [None if shape is None else tuple(map(operator.index, shape)) for shape in shapes]
    except TypeError as error:
        raise ArgumentError(f"input_shape must hold integers, but got {input_shape!r}") from error


def _resolve_shape(
    manifest: Manifest, group: tuple[str, ...], shape: tuple[int, ...] | None
) -> tuple[int, ...]:
    columns = [manifest.column(name) for name in group]
    width = sum(column.width for column in columns)
    if manifest.table is not None:
        width = manifest.table.select(group).matrix.width
        shape = (width,) if shape is None else shape
    if shape is None:
        # A single number becomes a row of one element, because a layer needs an axis.
        return columns[0].shape or (1,) if len(columns) == 1 else (width,)
    if any(size < 1 for size in shape) or math.prod(shape) != width:
        raise ArgumentError(
            f"the input shape {shape} has {math.prod(shape)} elements, but the columns "
            f"{', '.join(group)} have {width} per row"
        )
    return shape
