"""Greedy selection of an ensemble (Caruana et al., "Ensemble Selection", ICML 2004)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence

import numpy as np

Predictions = list[np.ndarray]
"""Predictions of one configuration: an array of shape ``(rows, width)`` for each output."""

# Number of rounds. More only refine the weights, in steps of a twenty-fifth.
_ROUNDS = 25


def select(
    predictions: Sequence[Predictions],
    score: Callable[[Predictions], float],
    size: int,
    penalties: Sequence[float],
) -> dict[int, float]:
    """Select members with weights, by adding the member that improves the score most.

    A member may be added again, which raises its weight. The score of an ensemble is that of its
    predictions and the weighted mean of its members' penalties.

    Args:
        predictions: Predictions of each candidate for the same rows, which it was not trained on.
        score: Score of predictions, to be minimized.
        size: Maximum number of different members.
        penalties: What to add to the score of each candidate.

    Returns:
        Weights by index of the candidate, with a sum of 1. Their score is at most that of the best
        candidate.
    """
    scores = [score(each) + more for each, more in zip(predictions, penalties, strict=True)]
    chosen = [int(np.nanargmin(scores))]
    best, best_count = scores[chosen[0]], 1
    penalty = penalties[chosen[0]]
    total = [each.astype(np.float64) for each in predictions[chosen[0]]]
    for _ in range(_ROUNDS - 1):
        members = set(chosen)
        allowed = members if len(members) >= size else range(len(predictions))
        tried = {
            index: score(
                [
                    (t + p) / (len(chosen) + 1)
                    for t, p in zip(total, predictions[index], strict=True)
                ]
            )
            + (penalty + penalties[index]) / (len(chosen) + 1)
            for index in sorted(allowed)
        }
        index = min(tried, key=lambda each: (np.nan_to_num(tried[each], nan=np.inf), each))
        chosen.append(index)
        penalty += penalties[index]
        total = [t + p for t, p in zip(total, predictions[index], strict=True)]
        if tried[index] < best:
            best, best_count = tried[index], len(chosen)
    counts = Counter(chosen[:best_count])
    return {index: count / best_count for index, count in sorted(counts.items())}
