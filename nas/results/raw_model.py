"""Keras models that take a table's raw columns and consist of built-in layers and operations only.

They compute the same values as :mod:`cerebros_spark.data.table.encode_fields` and
:mod:`cerebros_spark.data.table.encode_matrix`, in the same precision.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import keras
import numpy as np
from keras import layers, ops

from cerebros_spark.data.manifest import Layout
from cerebros_spark.data.table.batch import MISSING_INTEGER, NO_CATEGORY
from cerebros_spark.data.table.calendar import CYCLES, DAY, ELAPSED, HOUR, SIZES, WEEKDAY, YEAR
from cerebros_spark.data.table.encode_fields import GREATEST, LARGEST
from cerebros_spark.data.table.encode_matrix import CLIP, TURN
from cerebros_spark.data.table.hashing import HASH_KEY
from cerebros_spark.data.table.schema import (
    EMBEDDED,
    FIRST_CODE,
    MISSING_CODE,
    OTHER_CODE,
    SIGNED,
    CategoryColumn,
    DatetimeColumn,
    LabelClasses,
    NumberColumn,
    TableColumn,
    TableSchema,
)
from cerebros_spark.data.table.source import INTEGER, STRING

CLASSES = "classes"
"""Name of the model layer that contains an output's classes, if only one output has classes."""

_EXACT = 2**53
_HALF = 2**32
# Float32 distinguishes 2^24 values below a number; less than 2^10 of them within a quartile range
# are too few.
_FLOAT32_STEPS = 2**14

_USABLE = re.compile(r"[A-Za-z]\w*", re.ASCII)


def build_encoder(
    schema: TableSchema, name: str = "table", input_names: Mapping[str, str] | None = None
) -> keras.Model:
    """Build the model that encodes raw columns as the input matrix of a network.

    Its inputs are a dict by column name. Each has the shape ``(rows, 1)``, or ``(rows, width)`` for
    an array column, and one of these dtypes:

    - strings: string; ``""`` if missing
    - numbers and booleans: float64; NaN if missing
    - integers beyond 2^53: int64; -2^63 if missing
    - dates and times: int64 microseconds since 1970-01-01 00:00 local time; -2^63 (NumPy's NaT) if
      missing

    ``keras.Model.predict`` casts float64 arrays to float32 before the model receives them. If a
    column needs more digits, pass integers or a ``tf.data.Dataset``, or call the model. If
    TensorFlow cannot use a column's name, the dict key is still that name, but a SavedModel's
    signature has a different name.

    Args:
        schema: Encoding of the table.
        name: Name of the model.
        input_names: Names of the Keras inputs by column name, from :func:`make_input_names`. If
            None, they are made here.

    Returns:
        A model whose output is the matrix, float32 of shape ``(rows, encoded columns)``.
    """
    names = input_names or make_input_names([column.name for column in schema.columns])
    inputs = {column.name: _make_input(column, names[column.name]) for column in schema.columns}
    numbers: list[Any] = []
    flags: list[Any] = []
    codes: list[Any] = []
    for column in schema.columns:
        raw = inputs[column.name]
        if isinstance(column, NumberColumn):
            _encode_number(raw, column, numbers, flags)
        elif isinstance(column, CategoryColumn):
            _encode_category(raw, column, flags, codes)
        else:
            _encode_time(raw, column, numbers, flags)
    parts = [*([_clip(_join(numbers))] if numbers else []), *flags, *codes]
    return make_model(inputs, _join(parts), name)


def build_raw_model(network: keras.Model, schema: TableSchema, layout: Layout) -> keras.Model:
    """Build the model that encodes raw columns and applies a network to them.

    Args:
        network: The network; each of its inputs is an encoded matrix.
        schema: Encoding of the table.
        layout: Columns of each input and output of the network.
    """
    inputs: dict[str, Any] = {}
    matrices = []
    names = [column.name for column in schema.columns]
    labels = [group[0] if len(group) == 1 else "" for group in layout.outputs]
    found = {label: schema.find_classes(label) for label in labels}
    several = sum(classes is not None for classes in found.values()) > 1
    layer_names = {label: f"{CLASSES}_{number}" for number, label in enumerate(labels)}
    layer_names = layer_names if several else dict.fromkeys(labels, CLASSES)
    columns = {name.lower() for name in names}
    encoders = [f"table{number or ''}" for number in range(len(layout.inputs))]
    encoders = [f"{name}_encoder" if name in columns else name for name in encoders]
    taken = [*layer_names.values(), *encoders, *(layer.name for layer in network.layers)]
    input_names = make_input_names(names, [*taken, network.name])
    for group, name in zip(layout.inputs, encoders, strict=True):
        encoder = build_encoder(schema.select(group), name, input_names)
        inputs.update(encoder.input)
        matrices.append(encoder.output)
    outputs = network(matrices[0] if len(matrices) == 1 else matrices)
    single = not isinstance(outputs, list)
    named = []
    for output, label in zip([outputs] if single else outputs, labels, strict=True):
        classes = found[label]
        if classes is None:
            named.append(output)
        else:
            named.append(attach_classes(output, classes, layer_names[label]))
    model = make_model(inputs, named[0] if single else named, network.name)
    if network.compiled:
        model.compile_from_config(_get_compile_config(network))
    return model


def _get_compile_config(network: keras.Model) -> dict[str, Any]:
    """Return a network's compile configuration, adapted to a model with other output names."""
    config = dict(network.get_compile_config())
    for name in ("loss", "loss_weights", "metrics", "weighted_metrics"):
        values = config.get(name)
        if isinstance(values, Mapping) and set(values) <= set(network.output_names):
            config[name] = [values.get(output) for output in network.output_names]
    return config


def make_model(inputs: Mapping[str, Any], outputs: Any, name: str) -> keras.Model:
    """Make a model whose inputs are a dict; its keys may differ from the inputs' names."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "When providing `inputs` as a dict")
        return keras.Model(dict(inputs), outputs, name=name)


def make_input_names(names: Sequence[str], reserved: Sequence[str] = ()) -> dict[str, str]:
    """Return an input name that TensorFlow can use for each column name.

    The input names are unique regardless of case, and also differ from ``reserved``, the names of
    other layers. A column's name is used unchanged if possible.
    """
    taken = {name.lower() for name in reserved}
    result = {}
    for name in sorted(names, key=lambda each: (not _USABLE.fullmatch(each), names.index(each))):
        usable = name
        if not _USABLE.fullmatch(name) or name.lower() in taken:
            usable = stem = re.sub(r"\W", "_", f"column_{name}", flags=re.ASCII)
            number = 1
            while usable.lower() in taken:
                number += 1
                usable = f"{stem}_{number}"
        taken.add(usable.lower())
        result[name] = usable
    return result


def attach_classes(probabilities: Any, classes: LabelClasses, name: str = CLASSES) -> Any:
    """Attach a layer that contains an output's classes; return the output with equal values.

    The layer is a model called ``name`` with two outputs: ``"probability"``, the output itself, and
    ``"class"``, the predicted class as a string.

    Args:
        probabilities: Output of shape ``(rows, 1)`` for two classes, otherwise ``(rows, classes)``.
        classes: Classes of the label.
        name: Name of the layer.
    """
    width = probabilities.shape[-1]
    given = keras.Input((width,), name="probability", dtype=probabilities.dtype)
    if width == 1:
        index = ops.cast(given[:, 0] > 0.5, "int64")
    else:
        index = ops.cast(ops.argmax(given, axis=-1), "int64")
    # Index 0 of the layer is the unknown class.
    known = [str(value) for value in classes.values]
    names = layers.StringLookup(
        vocabulary=known, invert=True, oov_token=find_unused_name(known), name="names"
    )(index + 1)
    model = keras.Model(given, {"probability": given, "class": names}, name=name)
    return model(probabilities)["probability"]


def find_unused_name(values: Sequence[Any]) -> str:
    """Return a string that is not in ``values``, to represent unknown values."""
    name = "[UNK]"
    while name in values:
        name = f"[{name}]"
    return name


def _find_unused_integer(values: Sequence[Any]) -> int:
    """Return an integer that is not in ``values``, to represent unknown values."""
    number = MISSING_INTEGER + 1
    while number in values:
        number += 1
    return number


def _make_input(column: TableColumn, name: str) -> Any:
    dtype = "string" if column.storage == STRING else "float64"
    if is_large_integer(column) or isinstance(column, DatetimeColumn):
        dtype = "int64"
    width = column.width if isinstance(column, NumberColumn) else None
    return keras.Input((1 if width is None else width,), name=name, dtype=dtype)


def is_large_integer(column: TableColumn) -> bool:
    """Return whether the raw model takes a column as int64 because float64 is too imprecise."""
    if column.storage != INTEGER or isinstance(column, DatetimeColumn):
        return False
    values = column.center if isinstance(column, NumberColumn) else column.values
    return any(abs(int(value)) > _EXACT for value in values)


def find_precise_columns(schema: TableSchema) -> list[str]:
    """Return the names of float64 columns whose values float32 cannot distinguish well enough."""
    return [
        column.name
        for column in schema.columns
        if isinstance(column, NumberColumn)
        # Integers are passed as int64, unless missing values make them floats.
        and (column.storage != INTEGER or any(column.missing))
        and not is_large_integer(column)
        and any(
            abs(center) * scale > _FLOAT32_STEPS
            for center, scale in zip(column.center, column.scale, strict=True)
        )
    ]


def _join(parts: Sequence[Any]) -> Any:
    return parts[0] if len(parts) == 1 else layers.Concatenate()(list(parts))


def _scale(values: Any, scale: Any) -> Any:
    """Scale float64 numbers and cast them to float32, as data preparation does."""
    finite = ops.clip(values, -GREATEST, GREATEST)
    return ops.cast(ops.clip(finite * scale, -LARGEST, LARGEST), "float32")


def _subtract(values: Any, center: int) -> Any:
    """Subtract ``center`` from int64 values without overflow; return float64."""
    high, low = divmod(center, _HALF)
    upper = ops.cast(ops.floor_divide(values, _HALF) - high, "float64")
    lower = ops.cast(ops.mod(values, _HALF) - low, "float64")
    return upper * float(_HALF) + lower


def _fill(values: Any, missing: Any, filler: float = 0.0) -> Any:
    return ops.where(missing, ops.cast(filler, values.dtype), values)


def _clip(numbers: Any) -> Any:
    ratio = numbers / float(CLIP)
    return numbers / ops.sqrt(1.0 + ratio * ratio)


def _to_flag(condition: Any) -> Any:
    return ops.cast(condition, "float32")


def _encode_number(raw: Any, column: NumberColumn, numbers: list[Any], flags: list[Any]) -> None:
    single = column.width is None
    if is_large_integer(column):
        missing = ops.equal(raw, MISSING_INTEGER)
        centered = _subtract(raw, int(column.center[0]))
    else:
        missing = ops.isnan(raw)
        center = float(column.center[0]) if single else list(map(float, column.center))
        centered = raw - (center if single else np.asarray(center, "float64"))
    scale: Any = column.scale[0] if single else np.asarray(column.scale, "float64")
    numbers.append(_scale(_fill(centered, missing), scale))
    for index, is_flagged in enumerate(column.missing):
        if is_flagged:
            flags.append(_to_flag(missing[:, index : index + 1]))


def _encode_category(raw: Any, column: CategoryColumn, flags: list[Any], codes: list[Any]) -> None:
    named = raw
    if column.storage == STRING:
        code = layers.StringLookup(
            vocabulary=list(column.values), mask_token="", oov_token=find_unused_name(column.values)
        )(raw)
    elif is_large_integer(column):
        lookup = layers.IntegerLookup(
            vocabulary=list(column.values),
            mask_token=MISSING_INTEGER,
            oov_token=_find_unused_integer(column.values),
            vocabulary_dtype="int64",
        )
        code = lookup(raw)
    else:
        missing = ops.isnan(raw)
        lookup = layers.IntegerLookup(
            vocabulary=list(column.values),
            oov_token=_find_unused_integer(column.values),
            vocabulary_dtype="int64",
        )
        whole = ops.cast(_fill(raw, missing), "int64")
        is_whole = ops.equal(ops.cast(whole, "float64"), _fill(raw, missing))
        named = ops.where(is_whole, whole, ops.cast(NO_CATEGORY, "int64"))
        # Without a mask, the first code of the layer is that of unknown values.
        known = lookup(named) + 1
        code = ops.where(missing, ops.cast(MISSING_CODE, "int64"), ops.cast(known, "int64"))
    code = ops.cast(code, "int64")
    if column.buckets:
        bucket = layers.Hashing(column.buckets, salt=list(HASH_KEY))(named)
        hashed = ops.cast(bucket, "int64") + (FIRST_CODE + len(column.values))
        code = ops.where(ops.equal(code, OTHER_CODE), hashed, code)
    if column.encoding == EMBEDDED:
        codes.append(ops.cast(code, "float32"))
        return
    for present, value in ((column.missing, MISSING_CODE), (column.other, OTHER_CODE)):
        if present:
            flags.append(_to_flag(ops.equal(code, value)))
    known_code = code - FIRST_CODE
    if column.encoding == SIGNED:
        signed = ops.where(known_code >= 0, 2 * known_code - 1, ops.zeros_like(known_code))
        flags.append(ops.cast(signed, "float32"))
    else:
        # one_hot gives zeros for negative codes.
        one_hot = ops.one_hot(known_code[:, 0], len(column.values), dtype="float32")
        flags.append(one_hot)


def _encode_time(raw: Any, column: DatetimeColumn, numbers: list[Any], flags: list[Any]) -> None:
    missing = ops.equal(raw, MISSING_INTEGER)
    times = _fill(raw, missing)
    days = ops.floor_divide(times, DAY)
    for part in column.parts:
        if part == ELAPSED:
            centered = _subtract(times, column.center[0])
            numbers.append(_scale(_fill(centered, missing), column.scale[0]))
        elif part == YEAR:
            years = ops.cast(_split_days(days)[0] - column.center[1], "float64")
            numbers.append(_scale(_fill(years, missing), column.scale[1]))
        elif part in SIZES:
            step = ops.mod(days + 3, 7) if part == WEEKDAY else _split_days(days)[1] - 1
            # one_hot gives zeros for negative numbers.
            step = ops.where(missing, ops.cast(-1, step.dtype), step)
            flags.append(ops.one_hot(step[:, 0], SIZES[part], dtype="float32"))
        elif part in CYCLES:
            turn = ops.cast(_compute_cycle(part, times, days), "float32")
            angle = ops.cast(turn, "float64") * TURN
            for function in (ops.sin, ops.cos):
                flags.append(_fill(ops.cast(function(angle), "float32"), missing))
    if column.missing:
        flags.append(_to_flag(missing))


def _compute_cycle(part: str, times: Any, days: Any) -> Any:
    """Return the elapsed fraction of a cycle as float64; see :func:`.calendar.compute_part`."""
    if part == HOUR:
        return ops.cast(times - days * DAY, "float64") / float(DAY)
    return ops.cast(_split_days(days)[2] - 1, "float64") / 31.0


def _split_days(days: Any) -> tuple[Any, Any, Any]:
    """Return the year, month and day of days since 1970-01-01; see :func:`.calendar.split_days`."""
    div = ops.floor_divide
    shifted = days + 719_468
    era = div(shifted, 146_097)
    day_of_era = shifted - era * 146_097
    year_of_era = div(
        day_of_era - div(day_of_era, 1460) + div(day_of_era, 36_524) - div(day_of_era, 146_096), 365
    )
    day_of_year = day_of_era - (365 * year_of_era + div(year_of_era, 4) - div(year_of_era, 100))
    from_march = div(5 * day_of_year + 2, 153)
    day = day_of_year - div(153 * from_march + 2, 5) + 1
    month = ops.mod(from_march + 2, 12) + 1
    year = year_of_era + era * 400 + ops.cast(month <= 2, "int64")
    return year, month, day
