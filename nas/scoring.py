"""Scores a Spark DataFrame on the executors: predictions, and metrics over all rows."""

from __future__ import annotations

import difflib
import hashlib
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from cerebros_spark.backend.shipping import unpacked
from cerebros_spark.backend.spark import configure_task
from cerebros_spark.data.manifest import Layout
from cerebros_spark.data.shards import Chunk
from cerebros_spark.errors import DataError
from cerebros_spark.types import MetricState, TrialSpec

if TYPE_CHECKING:
    import pandas as pd
    from pyspark.sql import DataFrame


_SCORES = "__cerebros_scores"


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

    @property
    def single(self) -> bool:
        """Whether each column holds one number."""
        return self.width == len(self.names)


@dataclass(frozen=True)
class Scorer:
    """A trained network, ready to be sent to executors.

    Attributes:
        spec: The network.
        state: Its weights.
        layout: Which columns make up its inputs and outputs.
        input_dtypes: Type of each input.
        label_dtypes: Type of each output's labels.
        outputs: The columns to write.
        custom_objects: Layers, losses and metrics that are not Keras' own, packed.
    """

    spec: TrialSpec
    state: bytes
    layout: Layout
    input_dtypes: tuple[str, ...]
    label_dtypes: tuple[str, ...]
    outputs: tuple[OutputColumns, ...]
    custom_objects: bytes = b""

    def transform(self, df: DataFrame) -> DataFrame:
        """The DataFrame with the output columns added.

        Only the features go to Python; what else is in the DataFrame stays as it is.
        """
        from pyspark.sql.functions import col, pandas_udf, struct
        from pyspark.sql.types import ArrayType, DoubleType, StructField, StructType

        needed = list(dict.fromkeys(name for group in self.layout.inputs for name in group))
        check_columns(df.columns, needed)
        names = [name for output in self.outputs for name in output.names]
        for name in names:
            if name in df.columns:
                raise DataError(
                    f"the DataFrame has a column {name!r} already; choose other names with "
                    "set_output_columns()"
                )
        schema = StructType(
            [
                StructField(name, DoubleType() if output.single else ArrayType(DoubleType()))
                for output in self.outputs
                for name in output.names
            ]
        )
        sent = df.sparkSession.sparkContext.broadcast(self)

        def score(batches: Iterator[pd.DataFrame]) -> Iterator[pd.DataFrame]:
            for frame in batches:
                yield sent.value.outputs_of(frame)

        # pandas_udf finds the kind of function by its annotations, which must be real types.
        import pandas as pd

        score.__annotations__ = {
            "batches": Iterator[pd.DataFrame],
            "return": Iterator[pd.DataFrame],
        }
        scores = pandas_udf(score, schema)(struct(*(_plain(df, name) for name in needed)))
        scored = df.withColumn(_SCORES, scores)
        kept = [_quote(name) for name in df.columns]
        return scored.select(*kept, *(col(_SCORES)[name].alias(name) for name in names))

    def outputs_of(self, frame: pd.DataFrame) -> pd.DataFrame:
        """The outputs for the features in a pandas frame, as columns."""
        import pandas as pd

        told: dict[str, Any] = {}
        if len(frame) == 0:
            return pd.DataFrame({name: [] for output in self.outputs for name in output.names})
        arrays = _open(self).predict(inputs_of(frame, self.layout, self.input_dtypes))
        for output, values in zip(self.outputs, arrays, strict=True):
            flat = values.reshape(len(frame), -1).astype("float64")
            if output.single:
                told.update({name: flat[:, i] for i, name in enumerate(output.names)})
            else:
                told[output.names[0]] = list(flat)
        return pd.DataFrame(told)

    def metric_states(self, df: DataFrame) -> list[MetricState]:
        """The metric variables of each partition's rows."""
        needed = list(dict.fromkeys(self.layout.columns))
        check_columns(df.columns, needed)
        plain = df.select(*(_plain(df, name) for name in needed))
        sent = plain.sparkSession.sparkContext.broadcast(self)

        def measure(frames: Iterator[pd.DataFrame]) -> Iterator[pd.DataFrame]:
            import pandas as pd

            shard = _Frames(sent.value, frames)
            states = _open(sent.value).evaluate(shard)
            if shard.rows:
                yield pd.DataFrame({"state": [[np.array(values) for values in states[0]]]})

        rows = plain.mapInPandas(measure, "state array<array<double>>").collect()
        return [tuple(tuple(values) for values in row["state"]) for row in rows]


class _Frames:
    """Pandas frames as a shard."""

    resident = False

    def __init__(self, scorer: Scorer, frames: Iterable[pd.DataFrame]) -> None:
        self._scorer = scorer
        self._frames = frames
        self.rows = 0

    def chunks(self, batch_size: int, seed: int | None) -> Iterator[Chunk]:
        """A chunk for each frame, in natural order."""
        layout = self._scorer.layout
        for frame in self._frames:
            if len(frame) == 0:
                continue
            self.rows += len(frame)
            x = inputs_of(frame, layout, self._scorer.input_dtypes)
            y = labels_of(frame, layout, self._scorer.label_dtypes)
            yield Chunk(x, y, np.arange(len(frame), dtype=np.int64))


def inputs_of(frame: Any, layout: Layout, dtypes: Sequence[str]) -> list[np.ndarray]:
    """Features as model inputs, each of shape ``(rows, *input_shape)``.

    Args:
        frame: A pandas frame, or arrays by column name.
        layout: Which columns make up which input.
        dtypes: Type of each input.

    Raises:
        DataError: If a column holds nulls, or arrays of another length than in training.
    """
    return [
        _shaped(_side_by_side(frame, group), group, shape).astype(dtype, copy=False)
        for group, shape, dtype in zip(layout.inputs, layout.input_shapes, dtypes, strict=True)
    ]


def labels_of(frame: Any, layout: Layout, dtypes: Sequence[str]) -> list[np.ndarray]:
    """Labels, each of shape ``(rows, width)``; arguments as for :func:`inputs_of`."""
    return [
        _side_by_side(frame, group).astype(dtype)
        for group, dtype in zip(layout.outputs, dtypes, strict=True)
    ]


def check_columns(found: Sequence[str], needed: Sequence[str]) -> None:
    """Raises DataError if a column is missing."""
    for name in needed:
        if name not in found:
            close = difflib.get_close_matches(name, found, 1)
            hint = f" Did you mean {close[0]!r}?" if close else ""
            raise DataError(
                f"there is no column {name!r}.{hint} The columns are: {', '.join(found)}"
            )


def _shaped(array: np.ndarray, group: Sequence[str], shape: tuple[int, ...]) -> np.ndarray:
    if array.shape[1] != math.prod(shape):
        raise DataError(
            f"{', '.join(group)} must have {math.prod(shape)} values in a row, but got "
            f"{array.shape[1]}"
        )
    return array.reshape(-1, *shape)


def _side_by_side(frame: Any, group: Sequence[str]) -> np.ndarray:
    parts = [_rows_of(np.asarray(frame[name]), name) for name in group]
    return parts[0] if len(parts) == 1 else np.concatenate(parts, axis=1)


def _rows_of(values: np.ndarray, name: str) -> np.ndarray:
    """A column as a matrix with its rows."""
    if values.dtype == object:
        nulls = sum(value is None for value in values)
        lengths = {np.size(value) for value in values if value is not None}
        if nulls or len(lengths) > 1:
            what = f"{nulls} nulls" if nulls else f"arrays of {len(lengths)} different lengths"
            raise DataError(f"the column {name!r} holds {what}; fill or drop these rows first")
        values = np.stack([np.asarray(value) for value in values])
    return values.reshape(len(values), -1)


def _plain(df: DataFrame, name: str) -> Any:
    """A column that Arrow can carry: a vector as an array."""
    if df.schema[name].dataType.typeName() in ("vector", "vectorudt"):
        from pyspark.ml.functions import vector_to_array

        return vector_to_array(_quote(name), "float32").alias(name)
    return _quote(name)


def _quote(name: str) -> Any:
    from pyspark.sql.functions import col

    return col("`" + name.replace("`", "``") + "`")


# On the executors ------------------------------------------------------------------------


_opened: dict[str, Any] = {}


def _open(scorer: Scorer) -> Any:
    """The scorer's program, kept in this process for the batches and jobs that follow."""
    parts = scorer.state + scorer.spec.program.encode() + scorer.custom_objects
    digest = hashlib.sha256(parts).hexdigest()
    if digest not in _opened:
        configure_task()
        from cerebros_spark.training.keras_model import known
        from cerebros_spark.training.keras_trainer import KerasTrainer

        with known(unpacked(scorer.custom_objects)):
            program = KerasTrainer().open([scorer.spec])
        program.load([scorer.state])
        _opened.clear()  # one network at a time
        _opened[digest] = program
    return _opened[digest]
