#!/usr/bin/env python3
"""Count networks of the default space whose validation loss explodes, on the benchmark's tables.

Of each table, up to ``--rows`` rows are searched at random, for a few epochs. A network has
exploded if its validation loss in any epoch after the first is more than ten times that of the
mean, or of the shares of the classes.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

# The parent folder has the modules that all scripts share.
sys.path.insert(0, str(Path(__file__).parents[1]))
sys.path.insert(0, str(Path(__file__).parent))

import numpy as np
import pandas as pd
from _tables import Table
from quality import TABLES

_LIMIT = 10.0


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tables", nargs="+", metavar="NAME", help="names; defaults to all")
    parser.add_argument("--networks", type=int, default=60, help="of each table (%(default)s)")
    parser.add_argument("--rows", type=int, default=2000, help="of each table (%(default)s)")
    parser.add_argument("--epochs", type=int, default=4, help="%(default)s")
    parser.add_argument("--json", metavar="FILE", help="file of the rows")
    args = parser.parse_args()
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    rows = []
    for table in TABLES:
        if args.tables is None or table.name in args.tables:
            rows.append(search(table, args))
            print(json.dumps(rows[-1]), flush=True)
    exploded = sum(row["exploded"] + row["failed"] for row in rows)
    print(f"{exploded} of {sum(row['networks'] for row in rows)} networks exploded or failed")
    if args.json:
        Path(args.json).write_text(json.dumps(rows, indent=1))


def search(table: Table, args: argparse.Namespace) -> dict[str, Any]:
    """Search one table at random; return the counts."""
    import autokeras as ak

    from nas import HyperHyperModel, TabularSpace

    frame = table.load()
    frame = frame.sample(min(len(frame), args.rows), random_state=0).reset_index(drop=True)
    head = ak.ClassificationHead() if table.is_class else ak.RegressionHead()
    with tempfile.TemporaryDirectory() as folder:
        model = HyperHyperModel(
            ak.Input(), head, directory=folder, seed=0, space=TabularSpace(), tuner="random",
            max_trials=args.networks,
        )  # fmt: skip
        result = model.fit(frame, table.label, epochs=args.epochs, ensemble_size=1, verbose=0)
    constant = score_constant(frame[table.label], table.is_class)
    worst = [max(t.history["val_loss"][1:], default=np.inf) for t in result.trials if t.history]
    return {
        "table": table.name,
        "networks": len(result.trials),
        "constant": constant,
        "worst": max(worst),
        "exploded": sum(not value <= _LIMIT * constant for value in worst),
        "failed": sum(t.status.value == "failed" for t in result.trials),
        "diverged": sum(t.status.value != "failed" and t.error is not None for t in result.trials),
    }


def score_constant(label: pd.Series, is_class: bool) -> float:
    """Return the log loss of the shares of the classes, or the variance of a number."""
    if not is_class:
        return float(np.var(label.to_numpy(float)))
    shares = label.value_counts(normalize=True).to_numpy()
    return float(-(shares * np.log(shares)).sum())


if __name__ == "__main__":
    main()
