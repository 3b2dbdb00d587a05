"""Permutation importance of a table's columns for the predictions of a result.

Breiman, "Random Forests", Machine Learning 2001, section 10; Fisher, Rudin and Dominici, "All
Models are Wrong, but Many are Useful", JMLR 2019.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from cerebros_spark.core.errors import ArgumentError
from cerebros_spark.core.validation import check_integer
from nas.data.frames import is_table, to_frame
from nas.data.structs import flatten_needed
from nas.ensemble.usual_metrics import compute_usual_metrics

if TYPE_CHECKING:
    from nas.data.heads import Target
    from nas.results.result import ModelSelectionResult


def compute_importance(
    result: ModelSelectionResult,
    targets: Sequence[Target],
    x: Any,
    y: Any,
    repeats: int,
    rows: int,
    seed: int,
) -> pd.DataFrame:
    """Compute the permutation importance of each column.

    ``targets`` are the network's outputs. The other arguments and the result are those of
    ``ModelSelectionResult.feature_importance``.
    """
    repeats, rows = check_integer("repeats", repeats, 1), check_integer("rows", rows, 1)
    table = result.table
    classes = _count_classes(targets)
    if table is None or classes is None:
        raise ArgumentError(
            "the importance of columns is computed for raw tables with one label of numbers or "
            "classes"
        )
    if not is_table(x):
        raise ArgumentError("x must be a pandas DataFrame or an Arrow table")
    names = [column.name for column in table.columns]
    frame = flatten_needed(to_frame(x), names)
    labels = np.asarray(result.model_labels(frame if y is None or isinstance(y, str) else y))
    generator = np.random.default_rng(seed)
    if len(frame) > rows:
        chosen = generator.choice(len(frame), rows, replace=False)
        frame, labels = frame.iloc[chosen].reset_index(drop=True), labels[chosen]
    metric = "log_loss" if classes else "rmse"

    def measure(changed: pd.DataFrame) -> float:
        predictions = np.asarray(result.predict_arrays(changed)).reshape(len(changed), -1)
        return compute_usual_metrics(labels, predictions, classes or None)[metric]

    error = measure(frame)
    differences = {}
    for name in names:
        changed = [
            measure(frame.assign(**{name: frame[name].to_numpy()[order]}))
            for order in (generator.permutation(len(frame)) for _ in range(repeats))
        ]
        differences[name] = np.array(changed) - error
    board = pd.DataFrame(
        {
            "feature": names,
            "importance": [each.mean() for each in differences.values()],
            "deviation": [each.std() for each in differences.values()],
        }
    )
    board = board.sort_values("importance", ascending=False, ignore_index=True)
    board.attrs["metric"] = metric
    return board


def _count_classes(targets: Sequence[Target]) -> int | None:
    """Return the label's number of classes, 0 for regression, or None if it is unsupported."""
    if len(targets) != 1:
        return None
    (target,) = targets
    if target.num_classes is None:
        return 0 if target.width == 1 else None
    return int(target.num_classes) if target.label_shape == (1,) else None
