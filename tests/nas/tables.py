"""Raw tables with columns of every kind, for tests."""

from __future__ import annotations

import datetime
from typing import Any

import numpy as np
import pandas as pd


def raw_table(rows: int = 240, seed: int = 0) -> pd.DataFrame:
    """Return a table whose label ``y`` follows from a number and a string."""
    rng = np.random.default_rng(seed)
    frame = pd.DataFrame(
        {
            "number": rng.normal(5, 2, rows),
            "count": rng.integers(0, 9, rows),
            "row": np.arange(rows),
            "color": rng.choice(["red", "grün", "青", None], rows),
            "answer": rng.choice(["yes", "no"], rows),
            "at": pd.to_datetime(rng.integers(-(10**8), 10**9, rows), unit="s"),
            "day": [
                datetime.date(1969, 6, 1) + datetime.timedelta(days=int(d))
                for d in rng.integers(0, 900, rows)
            ],
            "note": [f"note {i}" for i in range(rows)],
            "constant": 1,
            "flag": rng.random(rows) < 0.3,
            "shop": rng.choice([f"shop {i}" for i in range(40)], rows),
            "vector": list(rng.normal(size=(rows, 3))),
            "kind of thing": pd.Categorical(rng.choice(["p", "q", "r"], rows)),
            "large": 2**60 + rng.integers(0, 10, rows),
            "seconds": 1_700_000_000.0 + rng.integers(0, 60, rows),
        }
    )
    frame.loc[::7, "number"] = np.nan
    high = frame["number"].fillna(5) > 5
    frame["y"] = np.where(high ^ (frame["color"] == "red"), "good", "bad")
    return frame


def to_inputs(frame: pd.DataFrame, columns: Any) -> dict[str, np.ndarray]:
    """Convert a frame to the inputs of an exported model, as its documentation says."""
    inputs = {}
    for column in columns:
        values = frame[column.name]
        if column.storage == "string":
            strings = values.astype(object)
            inputs[column.name] = strings.where(values.notna(), "").to_numpy(dtype=object)
        elif column.storage == "vector":
            inputs[column.name] = np.stack(list(values))
        elif type(column).__name__ == "DatetimeColumn":
            times = pd.to_datetime(values).astype("datetime64[us]")
            inputs[column.name] = times.astype("int64").to_numpy()
        elif values.dtype == object:
            inputs[column.name] = values.astype(float).to_numpy()
        else:
            inputs[column.name] = values.to_numpy()
    return inputs
