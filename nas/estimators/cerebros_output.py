"""What a search of moieties leaves in its folder: a table and pictures."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pandas as pd

from nas.results.result import ModelSelectionResult
from nas.trial.record import TrialRecord


def write_pictures(
    result: ModelSelectionResult, folder: Path, graphs: Path | None, tries: int
) -> dict[str, str]:
    """Writes a picture of each network that could be built.

    Args:
        result: The trials.
        folder: The project's folder.
        graphs: Where the pictures go: a folder below the project's, or an absolute one; None for
            none.
        tries: Trials of each moiety.

    Returns:
        By trial the path of its picture, relative to the project's folder where it lies below.
    """
    if graphs is None:
        return {}
    (folder / graphs).mkdir(parents=True, exist_ok=True)
    written = {}
    for trial in result.trials:
        if trial.program:
            moiety, number = divmod(trial.index, tries)
            path = graphs / f"moiety-{moiety}-try-{number}.svg"
            (folder / path).write_text(result.draw(trial.trial_id), encoding="utf-8")
            written[trial.trial_id] = path.as_posix()
    return written


def write_results(
    result: ModelSelectionResult, path: Path, pictures: dict[str, str], tries: int
) -> None:
    """Writes a row for each trial, in the order of the leaderboard.

    Args:
        result: The trials.
        path: The file, of comma-separated values.
        pictures: What :func:`write_pictures` gave.
        tries: Trials of each moiety.
    """
    by_name = {trial.trial_id: trial for trial in result.trials}
    board = result.leaderboard()
    metrics = list(dict.fromkeys(name for trial in result.trials for name in trial.history))
    rows = [
        _row(by_name[told["trial"]], told, metrics, pictures, tries)
        for told in board.to_dict("records")
    ]
    pd.DataFrame(rows).to_csv(path, index=False)


def _row(
    trial: TrialRecord, told: dict[str, Any], metrics: list[str], pictures: dict[str, str],
    tries: int,
) -> dict[str, Any]:  # fmt: skip
    moiety, number = divmod(trial.index, tries)
    best = trial.best_epoch
    return {
        "trial": trial.trial_id,
        "moiety": moiety,
        "try": number,
        "score": told["score"],
        **{name: math.nan if best is None else trial.history[name][best] for name in metrics},
        "best_epoch": best,
        "epochs": told["epochs"],
        "parameters": told["parameters"],
        "seconds": told["seconds"],
        "status": told["status"],
        "error": told["error"],
        "picture": pictures.get(trial.trial_id),
    }
