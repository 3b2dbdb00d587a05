"""Scores a Spark DataFrame on the executors: predictions, and metrics over all rows."""

from __future__ import annotations

import difflib
import hashlib
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from cerebros_spark.data.manifest import Layout
from cerebros_spark.data.shards import Chunk
from cerebros_spark.errors import DataError
from cerebros_spark.types import MetricState, TrialSpec

if TYPE_CHECKING:
    import pandas as pd
    from pyspark.sql import DataFrame


@dataclass(frozen=True)
class OutputColumns:
    """The columns that one model output becomes.

    Attributes:
        names: One name: the column holds the output's value, an array if it has several. As
            many names as values: one column for each.
        width: Number of values of the output.
    """

    names: tuple[str, ...]
    width: int


@dataclass(frozen=True)
class Scorer:
    """A trained network, ready to be sent to executors.

    Attributes:
        spec: The network.
        state: Its weights.
        layout: Which columns make up its inputs and outputs.
        label_dtypes: Type of each output's labels.
        outputs: The columns to write.
    """

    spec: TrialSpec
    state: bytes
    layout: Layout
    label_dtypes: tuple[str, ...]
    outputs: tuple[OutputColumns, ...]

    def transform(self, df: DataFrame) -> DataFrame:
        """The DataFrame with the output columns added."""
        from pyspark.sql.types import ArrayType, DoubleType, StructField, StructType

        needed = [name for group in self.layout.inputs for name in group]
        plain, names = _plain(df, needed)
        added = [
            StructField(name, DoubleType() if single else ArrayType(DoubleType()))
            for output in self.outputs
            for name in output.names
            for single in [output.width == len(output.names)]
        ]
        fields = [*plain.schema.fields, *added]
        taken = {field.name for field in plain.schema.fields}
        for each in added:
            if each.name in taken:
                raise DataError(
                    f"the DataFrame has a column {each.name!r} already; choose other names with "
                    "set_output_columns()"
                )
        sent = plain.sparkSession.sparkContext.broadcast(self)

        def score(frames: Iterator[pd.DataFrame]) -> Iterator[pd.DataFrame]:
            yield from _predict_frames(sent.value, names, frames)

        scored = plain.mapInPandas(score, StructType(fields))
        return scored.drop(*(alias for name, alias in names.items() if alias != name))

    def metric_states(self, df: DataFrame) -> list[MetricState]:
        """The metric variables of each partition's rows."""
        plain, names = _plain(df, self.layout.columns)
        plain = plain.select(*(_quote(alias) for alias in names.values()))
        sent = plain.sparkSession.sparkContext.broadcast(self)

        def measure(frames: Iterator[pd.DataFrame]) -> Iterator[pd.DataFrame]:
            import pandas as pd

            states = _measure_frames(sent.value, names, frames)
            if states is not None:
                yield pd.DataFrame({"state": [[np.array(values) for values in states]]})

        rows = plain.mapInPandas(measure, "state array<array<double>>").collect()
        return [tuple(tuple(values) for values in row["state"]) for row in rows]


class _Frames:
    """Pandas frames as a shard."""

    resident = False

    def __init__(
        self, scorer: Scorer, names: dict[str, str], frames: Iterable[pd.DataFrame]
    ) -> None:
        self._scorer = scorer
        self._names = names
        self._frames = frames
        self.rows = 0

    def chunks(self, batch_size: int, seed: int | None) -> Iterator[Chunk]:
        """A chunk for each frame, in natural order."""
        layout = self._scorer.layout
        for frame in self._frames:
            if len(frame) == 0:
                continue
            self.rows += len(frame)
            x = inputs_of(frame, layout, self._names)
            y = labels_of(frame, layout, self._scorer.label_dtypes, self._names)
            yield Chunk(x, y, np.arange(len(frame), dtype=np.int64))


def inputs_of(frame: Any, layout: Layout, names: dict[str, str] | None = None) -> list[np.ndarray]:
    """Features as model inputs, each of shape ``(rows, *input_shape)``.

    Args:
        frame: A pandas frame, or arrays by column name.
        layout: Which columns make up which input.
        names: What a column is called in the frame, where that is another name.
    """
    return [
        _shaped(_side_by_side(frame, group, names or {}), group, shape)
        for group, shape in zip(layout.inputs, layout.input_shapes, strict=True)
    ]


def labels_of(
    frame: Any, layout: Layout, dtypes: Sequence[str], names: dict[str, str] | None = None
) -> list[np.ndarray]:
    """Labels, each of shape ``(rows, width)``; arguments as for :func:`inputs_of`."""
    return [
        _side_by_side(frame, group, names or {}).astype(dtype)
        for group, dtype in zip(layout.outputs, dtypes, strict=True)
    ]


def check_columns(found: Sequence[str], needed: Sequence[str]) -> None:
    """Raises DataError if a column is missing."""
    for name in needed:
        if name not in found:
            close = difflib.get_close_matches(name, found, 1)
            hint = f"; did you mean {close[0]!r}?" if close else ""
            raise DataError(
                f"the column {name!r} is missing{hint} The columns are: {', '.join(found)}"
            )


def _shaped(array: np.ndarray, group: Sequence[str], shape: tuple[int, ...]) -> np.ndarray:
    if array.shape[1] != math.prod(shape):
        raise DataError(
            f"{', '.join(group)} must have {math.prod(shape)} values in a row, but got "
            f"{array.shape[1]}"
        )
    return array.reshape(-1, *shape)


def _side_by_side(frame: Any, group: Sequence[str], names: dict[str, str]) -> np.ndarray:
    parts = []
    for name in group:
        values = np.asarray(frame[names.get(name, name)])
        array = np.stack(list(values)) if values.dtype == object else values
        parts.append(array.reshape(len(array), -1))
    joined = parts[0] if len(parts) == 1 else np.concatenate(parts, axis=1)
    return joined if joined.dtype.kind in "iu" and len(parts) == 1 else joined.astype("float32")


def _plain(df: DataFrame, needed: Sequence[str]) -> tuple[DataFrame, dict[str, str]]:
    """The DataFrame with the needed vectors as arrays too, and what the columns are called."""
    from pyspark.ml.functions import vector_to_array

    check_columns(df.columns, needed)
    names = {}
    for number, name in enumerate(needed):
        names[name] = name
        if df.schema[name].dataType.typeName() in ("vector", "vectorudt"):
            names[name] = f"__cerebros_{number}"
            df = df.withColumn(names[name], vector_to_array(_quote(name), "float32"))
    return df, names


def _quote(name: str) -> Any:
    from pyspark.sql.functions import col

    return col("`" + name.replace("`", "``") + "`")


# On the executors ------------------------------------------------------------------------


_opened: dict[str, Any] = {}


def _open(scorer: Scorer) -> Any:
    """The scorer's program, kept in this process for the batches and jobs that follow."""
    from cerebros_spark.training import devices

    digest = hashlib.sha256(scorer.state + scorer.spec.program.encode()).hexdigest()
    if digest not in _opened:
        devices.load_tensorflow()
        from cerebros_spark.training.keras_trainer import KerasTrainer

        program = KerasTrainer().open([scorer.spec])
        program.load([scorer.state])
        _opened.clear()  # one network at a time
        _opened[digest] = program
    return _opened[digest]


def _predict_frames(
    scorer: Scorer, names: dict[str, str], frames: Iterator[pd.DataFrame]
) -> Iterator[pd.DataFrame]:
    program = _open(scorer)
    for frame in frames:
        if len(frame) == 0:
            continue
        outputs = program.predict(inputs_of(frame, scorer.layout, names))
        result = frame.copy()
        for columns, values in zip(scorer.outputs, outputs, strict=True):
            flat = values.reshape(len(frame), -1).astype("float64")
            if len(columns.names) == columns.width:
                for number, name in enumerate(columns.names):
                    result[name] = flat[:, number]
            else:
                result[columns.names[0]] = list(flat)
        yield result


def _measure_frames(
    scorer: Scorer, names: dict[str, str], frames: Iterator[pd.DataFrame]
) -> MetricState | None:
    shard = _Frames(scorer, names, frames)
    states = _open(scorer).evaluate(shard)
    return states[0] if shard.rows else None
