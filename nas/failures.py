"""Which failures of trials end a search."""

from __future__ import annotations

from collections.abc import Sequence

from cerebros_spark.errors import SearchError
from nas.trials import TrialRecord


def check_in_a_row(failed: Sequence[TrialRecord], most: int | None) -> None:
    """Makes sure that not too many trials have failed, one after the other.

    Args:
        failed: Those that have, up to now.
        most: How many are too many; None for any number.

    Raises:
        SearchError: If they have; the message tells of the first.
    """
    if most is None or len(failed) < most:
        return
    first = failed[0]
    raise SearchError(
        f"{len(failed)} trials failed one after the other; the first, "
        f"{first.trial_id}: {first.error}\n{first.traceback or ''}"
    )


def check_any_score(ended: Sequence[TrialRecord]) -> None:
    """Makes sure that a search has come to something.

    Args:
        ended: Its trials.

    Raises:
        SearchError: If it had no trial, or none with a score; the message tells of the first.
    """
    if any(record.score is not None for record in ended):
        return
    if not ended:
        raise SearchError("the tuner proposed no trial: the space is empty")
    first = min(ended, key=lambda record: record.index)
    raise SearchError(
        f"all {len(ended)} trials failed; the first, {first.trial_id}: {first.error}\n"
        f"{first.traceback or ''}"
    )
