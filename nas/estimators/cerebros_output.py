"""Output files of a search of moieties: a table of results, and drawings of networks."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pandas as pd

from nas.results.result import ModelSelectionResult


def write_drawings(
    result: ModelSelectionResult, folder: Path, graphs: Path | None, tries: int
) -> dict[str, str]:
    """Write an SVG drawing of each network that was built; return the paths by trial ID.

    ``graphs`` is the folder for the drawings: an absolute path, or a path relative to ``folder``.
    If it is None, nothing is drawn and the result is empty. ``tries`` is the number of trials per
    moiety.
    """
    if graphs is None:
        return {}
    (folder / graphs).mkdir(parents=True, exist_ok=True)
    paths = {}
    for trial in result.trials:
        if trial.program:
            moiety, number = divmod(trial.index, tries)
            path = graphs / f"moiety-{moiety}-try-{number}.svg"
            (folder / path).write_text(result.draw(trial.trial_id), encoding="utf-8")
            paths[trial.trial_id] = path.as_posix()
    return paths


def write_results(
    result: ModelSelectionResult, path: Path, drawings: dict[str, str], tries: int
) -> None:
    """Write a CSV file with a row for each trial, in the order of the leaderboard.

    ``drawings`` are the results of :func:`write_drawings`; ``tries`` is the number of trials per
    moiety.
    """
    trials = {trial.trial_id: trial for trial in result.trials}
    metrics = list(dict.fromkeys(name for trial in result.trials for name in trial.history))
    rows = []
    for entry in result.leaderboard().to_dict("records"):
        trial = trials[entry["trial"]]
        moiety, number = divmod(trial.index, tries)
        best = trial.best_epoch
        row: dict[str, Any] = {"trial": trial.trial_id, "moiety": moiety, "try": number}
        row["score"] = entry["score"]
        for name in metrics:
            row[name] = math.nan if best is None else trial.history[name][best]
        row["best_epoch"] = best
        for name in ("epochs", "parameters", "seconds", "status", "error"):
            row[name] = entry[name]
        row["picture"] = drawings.get(trial.trial_id)
        rows.append(row)
    pd.DataFrame(rows).to_csv(path, index=False)
