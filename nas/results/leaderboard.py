"""Leaderboard of a run as a pandas DataFrame."""

from __future__ import annotations

import math
from collections.abc import Sequence

import pandas as pd

from nas.trial.configuration import Configuration
from nas.trial.failures import summarize_error


def build_leaderboard(configurations: Sequence[Configuration]) -> pd.DataFrame:
    """Build the DataFrame that ``ModelSelectionResult.leaderboard`` describes.

    Args:
        configurations: Configurations of the search, best first.
    """
    rows = [
        {
            "trial": trial.trial_id,
            "score": math.nan if each.score is None else each.score,
            "epochs": trial.finished_epochs,
            "parameters": trial.parameters,
            "seconds": trial.seconds,
            "status": trial.status.value,
            "error": None if trial.error is None else summarize_error(trial.error),
            "traceback": trial.traceback,
        }
        for each in configurations
        for trial in each.trials[:1]
    ]
    frame = pd.DataFrame(rows)
    if any(each.is_validated for each in configurations):
        counts = [each.compared_folds if each.is_validated else 1 for each in configurations]
        errors = [each.standard_error if each.is_validated else None for each in configurations]
        frame.insert(2, "folds", counts)
        frame.insert(3, "standard_error", pd.Series(errors, dtype="float64"))
    return frame
