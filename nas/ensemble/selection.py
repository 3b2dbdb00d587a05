"""Greedy selection of an ensemble (Caruana et al., "Ensemble Selection", ICML 2004)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence

import numpy as np

Predictions = list[np.ndarray]
"""Predictions of one configuration: an array of shape ``(rows, width)`` for each output."""

# Number of rounds. More rounds would only refine the weights, whose steps are about 1/25.
_ROUNDS = 25


def select(
    predictions: Sequence[Predictions],
    score: Callable[[Predictions], float],
    size: int,
    penalties: Sequence[float],
) -> dict[int, float]:
    """Select an ensemble by repeatedly adding the candidate that yields the best score.

    A candidate may be added several times, which raises its weight. The ensemble's score is that of
    its mean predictions plus the weighted mean of its members' penalties.

    Args:
        predictions: Predictions of each candidate for the same rows, which it was not trained on.
        score: Function that scores predictions; lower is better.
        size: Maximum number of distinct members.
        penalties: Number to add to the score of each candidate.

    Returns:
        Weights by candidate index, which sum to 1. The ensemble's score is at most that of the
        best candidate.
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
