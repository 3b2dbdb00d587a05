#!/usr/bin/env python3
"""Measure what the choice among cross-validated configurations costs on rows that none has seen.

A search with the defaults has several configurations with all folds. Each predicts the test rows by
the mean of its networks. The regret of a choice is the error of the chosen configuration over that
of the best one in hindsight, less 1. Two choices are compared: by the mean of the folds at their
own best epochs, and by the leaderboard, where each fold is scored at the epoch that is best for the
others. The error of the ensemble is printed beside them.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import warnings
from pathlib import Path
from typing import Any

# The parent folder has the modules that all scripts share.
sys.path.insert(0, str(Path(__file__).parents[1]))
sys.path.insert(0, str(Path(__file__).parent))

import numpy as np
from quality import TABLES, Task, make_task


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tables", nargs="+", metavar="NAME", help="names; defaults to all")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2], help="%(default)s")
    parser.add_argument("--seconds", type=float, default=60.0, help="of each search (%(default)s)")
    parser.add_argument("--json", metavar="FILE", help="file of JSON lines, which is extended")
    args = parser.parse_args()
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    warnings.filterwarnings("ignore")
    rows = []
    for table in TABLES:
        for seed in args.seeds if args.tables is None or table.name in args.tables else ():
            rows.append(measure(make_task(table, seed, args.seconds)))
            print(json.dumps(rows[-1]), flush=True)
            if args.json:
                with open(args.json, "a") as file:
                    file.write(json.dumps(rows[-1]) + "\n")
    for name in ("own epochs", "leaderboard"):
        regrets = [row[name] / row["best"] - 1 for row in rows]
        print(f"regret by {name}: mean {np.mean(regrets):.4f}, greatest {max(regrets):.4f}")


def measure(task: Task) -> dict[str, Any]:
    """Search one table; return the errors of both choices, of the best, and of the ensemble."""
    import autokeras as ak

    from nas import HyperHyperModel

    head = ak.ClassificationHead() if task.is_class else ak.RegressionHead()
    train = task.train.assign(**{task.table.label: task.y})
    with tempfile.TemporaryDirectory() as folder:
        search = HyperHyperModel(ak.Input(), head, directory=folder, seed=task.seed)
        result = search.fit(train, task.table.label, max_seconds=task.seconds, verbose=0)
        board = result.leaderboard().set_index("trial")
        if "folds" not in board:
            sys.exit(f"{task.table.name}: no configuration has several folds; give more --seconds")
        board = board[board["folds"] > 1]
        inputs = result.model_inputs(task.test)
        own, errors = {}, {}
        for name, folds in board["folds"].items():
            trials = [t for t in result.trials if name in (t.trial_id, t.configuration)]
            trials = [t for t in trials if t.fold < folds]
            own[name] = float(np.mean([t.score for t in trials]))
            models = [result.get_model(t.trial_id) for t in trials]
            outputs = np.mean([model.predict(inputs, verbose=0) for model in models], axis=0)
            errors[name] = score(task, outputs)
        return {
            "table": task.table.name,
            "seed": task.seed,
            "configurations": len(board),
            "best": min(errors.values()),
            "own epochs": errors[min(own, key=own.__getitem__)],
            "leaderboard": errors[board["score"].idxmin()],
            "ensemble": score(task, np.asarray(search.predict(task.test))),
        }


def score(task: Task, outputs: np.ndarray) -> float:
    """Return the error of outputs of a network."""
    if task.is_class and outputs.shape[1] == 1:
        outputs = np.concatenate([1 - outputs, outputs], axis=1)
    return task.score(outputs)


if __name__ == "__main__":
    main()
