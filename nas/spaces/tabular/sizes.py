"""Batch sizes and numbers of epochs for networks on tables."""

from __future__ import annotations

# Approximate number of training steps that a network needs, and bounds of the passes over the rows.
_STEPS = 2_400
_LEAST_PASSES, _MOST_PASSES = 12, 128
# The learning-rate schedule has four cycles, and the best epoch is kept.
_LEAST_EPOCHS = 6
# In a visit to a partition with fewer steps, starting and ending take longer than training.
_STEPS_PER_VISIT, _MOST_PASSES_PER_VISIT = 24, 4


def choose_batch_size(rows: int) -> int:
    """Return the rows per training step for a table with ``rows`` training rows, 32 to 1,024.

    The sizes are those of arXiv 2407.04491, appendix A.1, except for 32.
    """
    for most, size in ((512, 32), (1024, 64), (8192, 128), (30_000, 256), (100_000, 512)):
        if rows <= most:
            return size
    return 1024


def choose_epochs(rows: int, batch_size: int, partitions: int) -> tuple[int, int]:
    """Choose the number of epochs for a table, and the number of passes over the rows per epoch.

    An epoch visits each partition once, with one or more passes over its rows. The authors of
    RealMLP train for 256 passes. Fewer passes leave time for more networks, which gives a better
    ensemble in the same time.

    Args:
        rows: Number of training rows.
        batch_size: Rows per training step.
        partitions: Number of partitions of the rows.

    Returns:
        The number of epochs, and the number of passes in each epoch.
    """
    total = min(max(round(_STEPS * batch_size / max(rows, 1)), _LEAST_PASSES), _MOST_PASSES)
    steps = max(1, rows // (partitions * batch_size))
    passes = min(-(-_STEPS_PER_VISIT // steps), _MOST_PASSES_PER_VISIT, total // _LEAST_EPOCHS)
    return round(total / passes), passes
