"""Which columns make up which model input and output."""

from __future__ import annotations

import math
import operator
import re
from collections.abc import Sequence
from typing import Any

from cerebros_spark.core.errors import ArgumentError
from cerebros_spark.data.checks import flatten
from cerebros_spark.data.manifest import Layout, Manifest

Columns = Sequence[str | Sequence[str]]

# Names that Keras, AutoKeras and this package number where the user gives none.
_NUMBERED = re.compile(
    r"((features|target)_\d+)"
    r"|((\w+_)?input(_layer)?|keras_tensor|(classification|regression|plain)_head|output)(_\d+)?"
)
Groups = tuple[tuple[str, ...], ...]


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
    """Distributes the columns over the inputs and outputs of a model.

    One input gets all features side by side, and as many inputs as features get one each: that
    of its own name, as in Keras. Only where inputs or columns were given no names (Keras and
    AutoKeras number them then) they are matched in their order. For any other way, group
    the names in lists, one list for each input. The same holds for labels and outputs.

    Args:
        manifest: The prepared data.
        inputs: Number of model inputs.
        outputs: Number of model outputs.
        feature_columns: The features, flat or grouped; all of the manifest's by default.
        label_columns: The labels, flat or grouped; all of the manifest's by default.
        input_shape: Shape of one row of the input, without the batch; for several inputs a list
            with a shape, or None, for each. By default a single column keeps its own shape and
            columns side by side are ``(total width,)``.
        input_names: Names of the model's inputs, if it tells them.
        output_names: Names of its outputs, likewise.

    Returns:
        The layout.

    Raises:
        ArgumentError: If the columns can't be distributed, names of columns and inputs differ,
            or a shape has another number of elements than its columns.
    """
    features = _groups(manifest, "feature", feature_columns, inputs, input_names)
    labels = _groups(manifest, "label", label_columns, outputs, output_names)
    asked = _shapes(input_shape, len(features))
    shapes = tuple(
        _shape(manifest, group, shape) for group, shape in zip(features, asked, strict=True)
    )
    return Layout(features, labels, shapes)


def input_dtype(manifest: Manifest, names: Sequence[str]) -> str:
    """NumPy name of the type in which columns side by side reach a model.

    A single column keeps its type; several are float32.
    """
    return manifest.column(names[0]).dtype if len(names) == 1 else "float32"


def _groups(
    manifest: Manifest, role: str, columns: Columns | None, count: int, ends: Sequence[str]
) -> Groups:
    argument = f"{role}_columns"
    end = "input" if role == "feature" else "output"
    existing = tuple(column.name for column in manifest.columns if column.role == role)
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
        return tuple((name,) for name in _by_name(names, ends, end, argument))
    if set(names) & set(ends):
        raise _unmatched(names, ends, end, f"group {argument} in {count} lists, one for each {end}")
    raise ArgumentError(
        f"the model has {count} {end}s, but {argument} has {len(names)} columns "
        f"({', '.join(names)}): group the names in {count} lists, one for each {end}"
    )


def _by_name(names: Sequence[str], ends: Sequence[str], end: str, argument: str) -> Sequence[str]:
    """The columns in the order of the inputs or outputs that they are named like."""
    if sorted(ends) == sorted(names):
        return ends
    lacking = [name for name in ends if name not in names]
    unnamed = all(_NUMBERED.fullmatch(name) for name in ends)
    if len(lacking) == len(ends) and (unnamed or all(map(_NUMBERED.fullmatch, names))):
        return names
    groups = [[name] for name in names]
    raise _unmatched(
        names, ends, end, f"group {argument} in lists in the order of the {end}s: {groups}"
    )


def _unmatched(names: Sequence[str], ends: Sequence[str], end: str, group: str) -> ArgumentError:
    """What is wrong with columns of which some are named like inputs or outputs."""
    lacking = [repr(name) for name in ends if name not in names]
    unknown = [repr(name) for name in names if name not in ends]
    wrong = [f"there is no column {', '.join(lacking)}"] if lacking else []
    if unknown:
        wrong.append(f"the columns {', '.join(unknown)} are named like no {end}")
    return ArgumentError(
        f"the model has the {end}s {', '.join(map(repr, ends))}, but {'; '.join(wrong)}. Give one "
        f"column of each name, or {group}"
    )


def _shapes(
    given: Sequence[int] | Sequence[Sequence[int] | None] | None, count: int
) -> list[tuple[int, ...] | None]:
    """One shape, or None, for each input."""
    if given is None:
        return [None] * count
    one = all(hasattr(size, "__index__") for size in given)
    shapes: list[Any] = [given] if one else list(given)
    if len(shapes) != count:
        raise ArgumentError(
            f"input_shape must have a shape for each of the {count} inputs, but got {given!r}"
        )
    try:
        return [None if shape is None else tuple(map(operator.index, shape)) for shape in shapes]
    except TypeError as error:
        raise ArgumentError(f"input_shape must hold whole numbers, but got {given!r}") from error


def _shape(
    manifest: Manifest, group: tuple[str, ...], asked: tuple[int, ...] | None
) -> tuple[int, ...]:
    columns = [manifest.column(name) for name in group]
    width = sum(column.width for column in columns)
    if asked is not None:
        if any(size < 1 for size in asked) or math.prod(asked) != width:
            raise ArgumentError(
                f"the input shape {asked} has {math.prod(asked)} elements, but the columns "
                f"{', '.join(group)} have {width} in a row"
            )
        return asked
    # A single number is a row of one element: a layer takes no input without an axis.
    return columns[0].shape or (1,) if len(columns) == 1 else (width,)
