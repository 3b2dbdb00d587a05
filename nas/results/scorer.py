"""Scores a Spark DataFrame on the executors: predictions, and metrics over all rows."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import itertools
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from cerebros_spark.backends.spark import configure_task
from cerebros_spark.core.errors import DataError
from cerebros_spark.core.pickling import unpacked
from cerebros_spark.core.types import MetricState, TrialSpec
from cerebros_spark.data.manifest import Layout
from cerebros_spark.data.shards import Chunk
from nas.data.columns import build_inputs, build_labels, check_columns, stack_arrow_rows
from nas.metrics.labels import AllowedValues
from nas.results.output_columns import OutputColumns

if TYPE_CHECKING:
    import pandas as pd
    from pyspark.sql import DataFrame
    from pyspark.sql.types import StructField


_SCORES = "__cerebros_scores"

#: Spark's names of types of one number each.
_WHOLE = ("boolean", "byte", "short", "integer", "long")
_FRACTIONS = ("float", "double", "decimal")
_NUMBERS = (*_WHOLE, *_FRACTIONS)
_VECTORS = ("vector", "vectorudt")

#: Inputs' types in NumPy's and in Spark's words, where Spark casts without loss.
_SPARK_TYPES = {"float32": "float", "float64": "double"}

_NAMED = 8  # so many columns an error calls by name


@dataclass(frozen=True)
class Scorer:
    """A trained network, ready to be sent to executors.

    Attributes:
        spec: The network.
        state: Its weights.
        layout: Which columns make up its inputs and outputs.
        input_dtypes: Type of each input.
        label_dtypes: Type of each output's labels.
        label_values: The values that they may have; none where there are no labels.
        outputs: The columns to write, for each output.
        custom_objects: Layers, losses and metrics that are not Keras' own, packed.
    """

    spec: TrialSpec
    state: bytes
    layout: Layout
    input_dtypes: tuple[str, ...]
    label_dtypes: tuple[str, ...]
    outputs: tuple[OutputColumns, ...]
    custom_objects: bytes = b""
    label_values: tuple[AllowedValues, ...] = ()

    def transform(self, df: DataFrame) -> DataFrame:
        """The DataFrame with the output columns added, and the class columns.

        Only the features go to Python; what else is in the DataFrame stays as it is.
        """
        from pyspark.sql.functions import pandas_udf, struct
        from pyspark.sql.types import StructType

        _check_usable(df, [name for group in self.layout.inputs for name in group])
        added = [name for output in self.outputs for name in output.added]
        for name in added:
            if name in df.columns:
                raise DataError(
                    f"the DataFrame has a column {name!r} already; choose other names with "
                    "set_output_columns()"
                )
        layout, features = _sent_features(df, self.layout, self.input_dtypes)
        scorer = dataclasses.replace(self, layout=layout)
        schema = StructType([field for output in self.outputs for field in output.fields()])
        sent = df.sparkSession.sparkContext.broadcast(scorer)

        def score(batches: Iterator[pd.DataFrame]) -> Iterator[pd.DataFrame]:
            for frame in batches:
                yield sent.value.outputs_of(frame)

        # pandas_udf finds the kind of function by its annotations, which must be real types.
        import pandas as pd

        score.__annotations__ = {
            "batches": Iterator[pd.DataFrame],
            "return": Iterator[pd.DataFrame],
        }
        scored = df.withColumn(_SCORES, pandas_udf(score, schema)(struct(*features)))
        kept = [_quote(name) for name in df.columns]
        return scored.select(*kept, *(c for output in self.outputs for c in output.of(_SCORES)))

    def outputs_of(self, frame: pd.DataFrame) -> pd.DataFrame:
        """The outputs for the features in a pandas frame that came from Arrow, as columns."""
        import pandas as pd

        told: dict[str, Any] = {}
        if len(frame) == 0:
            return pd.DataFrame({field.name: [] for o in self.outputs for field in o.fields()})
        columns = {name: stack_arrow_rows(frame[name].to_numpy()) for name in frame}
        arrays = _open(self).predict(build_inputs(columns, self.layout, self.input_dtypes))
        for output, values in zip(self.outputs, arrays, strict=True):
            told.update(output.told(values.reshape(len(frame), -1).astype("float64")))
        return pd.DataFrame(told)

    @functools.cached_property
    def digest(self) -> str:
        """Names the network and its weights."""
        parts = (self.state, self.spec.program.encode(), self.custom_objects)
        return hashlib.sha256(b"".join(parts)).hexdigest()

    def metric_states(self, df: DataFrame) -> list[MetricState]:
        """The metric variables of each partition's rows."""
        needed = list(dict.fromkeys(self.layout.columns))
        _check_usable(df, needed)
        # mapInPandas takes dots and backticks in names for more than names.
        plain = df.select(*(_plain(df, name).alias(f"c{i}") for i, name in enumerate(needed)))
        sent = plain.sparkSession.sparkContext.broadcast(self)

        def measure(frames: Iterator[pd.DataFrame]) -> Iterator[pd.DataFrame]:
            import pandas as pd

            shard = _Frames(sent.value, frames)
            states = _open(sent.value).evaluate(shard)
            if shard.rows:
                yield pd.DataFrame({"state": [[np.array(values) for values in states[0]]]})

        try:
            rows = plain.mapInPandas(measure, "state array<array<double>>").collect()
        except Exception as error:
            message = _data_error(error)
            if message is None:
                raise
            raise DataError(message) from None
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
            frame.columns = list(dict.fromkeys(layout.columns))
            if len(frame) == 0:
                continue
            self.rows += len(frame)
            x = build_inputs(frame, layout, self._scorer.input_dtypes)
            y = build_labels(frame, layout, self._scorer.label_dtypes)
            for labels, group, values in zip(
                y, layout.outputs, self._scorer.label_values, strict=True
            ):
                values.check(labels, group)
            yield Chunk(x, y, np.arange(len(frame), dtype=np.int64))


def fractional(df: DataFrame, names: Sequence[str]) -> bool:
    """Whether any of some columns is of a type with fractions, or of arrays of such."""
    check_columns(df.columns, names)
    kinds = [df.schema[name].dataType for name in names]
    kinds = [getattr(kind, "elementType", kind) for kind in kinds]
    return any(kind.typeName() in (*_FRACTIONS, *_VECTORS) for kind in kinds)


def _check_usable(df: DataFrame, needed: Sequence[str]) -> None:
    """Make sure that a DataFrame has some columns, of numbers, under names that are unique.

    Raises:
        DataError: If one is missing or of another type, or two columns have the same name, as
            Spark compares names.
    """
    check_columns(df.columns, needed)
    exact = str(df.sparkSession.conf.get("spark.sql.caseSensitive")).lower() == "true"
    counts = Counter(name if exact else name.lower() for name in df.columns)
    for name in df.columns:
        count = counts[name if exact else name.lower()]
        if count > 1:
            raise DataError(f"there are {count} columns {name!r}; rename them first")
    kinds = {field.name: field.dataType for field in df.schema.fields}
    for name in needed:
        kind = kinds[name]
        if getattr(kind, "elementType", kind).typeName() not in (*_NUMBERS, *_VECTORS):
            raise DataError(
                f"the column {name!r} has the type {kind.simpleString()}, but must hold numbers as "
                "in training"
            )


def _data_error(error: Exception) -> str | None:
    """What a DataError said that executors raised; None if that is not what failed."""
    for line in str(error).splitlines():
        if line.startswith("cerebros_spark.core.errors.DataError: "):
            return line.partition(": ")[2]
    return None


def _sent_features(
    df: DataFrame, layout: Layout, dtypes: Sequence[str]
) -> tuple[Layout, list[Any]]:
    """The features as columns that are quick to send, and the layout that reads them.

    Numbers that make up one input go as one array: Arrow writes one column far faster than
    dozens, and Python need not put them side by side.
    """
    groups: list[tuple[str, ...]] = []
    sent: dict[str, Any] = {}
    kinds = {field.name: field for field in df.schema.fields}

    def is_number(name: str) -> bool:
        return kinds[name].dataType.typeName() in _NUMBERS

    for number, (group, dtype) in enumerate(zip(layout.inputs, dtypes, strict=True)):
        names: list[str] = []
        for numbers, run in itertools.groupby(group, is_number):
            several = tuple(run)
            if not numbers or dtype not in _SPARK_TYPES:
                sent.update({name: _plain(df, name) for name in several})
                names += several
                continue
            # The name is what an error calls them.
            called = (
                ", ".join(several) if len(several) <= _NAMED else f"{several[0]} … {several[-1]}"
            )
            if called in sent or (len(several) > 1 and called in df.columns):
                called = f"{called} (input {number})"
            sent[called] = _packed(kinds, several, _SPARK_TYPES[dtype]).alias(called)
            names.append(called)
        groups.append(tuple(names))
    return dataclasses.replace(layout, inputs=tuple(groups)), list(sent.values())


def _packed(kinds: Mapping[str, StructField], names: Sequence[str], kind: str) -> Any:
    """Columns of numbers as one: null where one of them is, for Arrow would make that NaN.

    In SQL text, and with a balanced condition: Spark takes thousands of columns then.
    """
    from pyspark.sql.functions import expr

    numbers = [f"cast({_sql(name)} as {kind})" for name in names]
    present = [f"{_sql(name)} is not null" for name in names if kinds[name].nullable]
    if not present:
        return expr(numbers[0] if len(numbers) == 1 else f"array({', '.join(numbers)})")
    while len(present) > 1:
        present = [
            " and ".join(f"({p})" for p in present[i : i + 2]) for i in range(0, len(present), 2)
        ]
    return expr(f"if({present[0]}, array({', '.join(numbers)}), null)")


def _plain(df: DataFrame, name: str) -> Any:
    """A column that Arrow can carry: a vector as an array."""
    if df.schema[name].dataType.typeName() in _VECTORS:
        from pyspark.ml.functions import vector_to_array
        from pyspark.sql.functions import when

        # vector_to_array fails on null without telling the column.
        array = vector_to_array(_quote(name), "float32")
        return when(_quote(name).isNotNull(), array).alias(name)
    return _quote(name)


def _quote(name: str) -> Any:
    from pyspark.sql.functions import col

    return col(_sql(name))


def _sql(name: str) -> str:
    return "`" + name.replace("`", "``") + "`"


# On the executors ------------------------------------------------------------------------


_opened: dict[str, Any] = {}


def _open(scorer: Scorer) -> Any:
    """The scorer's program, kept in this process for the batches and jobs that follow."""
    digest = scorer.digest
    if digest not in _opened:
        configure_task()
        from cerebros_spark.training.keras.scopes import custom_object_scope
        from cerebros_spark.training.keras.trainer import KerasTrainer

        with custom_object_scope(unpacked(scorer.custom_objects)):
            program = KerasTrainer().open([scorer.spec])
        program.load([scorer.state])
        _opened.clear()  # one network at a time
        _opened[digest] = program
    return _opened[digest]
