"""Rows per training step, and epochs, of networks for tables."""

from __future__ import annotations

# Training steps that a network needs, about; more epochs than the last hardly help.
_STEPS = 2_400
_LEAST_PASSES, _MOST_PASSES = 12, 128
# The schedule has four cycles, and the best epoch is kept.
_LEAST_EPOCHS = 6
# A visit with fewer steps takes longer to begin and to end than to train.
_STEPS_PER_VISIT, _MOST_PASSES_PER_VISIT = 24, 4


def choose_batch_size(rows: int) -> int:
    """Return the number of rows per step (arXiv 2407.04491, appendix A.1; 32 is ours)."""
    for most, size in ((512, 32), (1024, 64), (8192, 128), (30_000, 256), (100_000, 512)):
        if rows <= most:
            return size
    return 1024


def choose_epochs(rows: int, batch_size: int, partitions: int) -> tuple[int, int]:
    """Choose the number of epochs for a table, and of passes in each visit to a partition.

    RealMLP's authors train for 256 passes. Fewer, of more networks, give a better ensemble in the
    same time.

    Args:
        rows: Number of training rows.
        batch_size: Rows per step.
        partitions: Number of partitions.

    Returns:
        Number of epochs, and number of passes over the rows in each of them.
    """
    total = min(max(round(_STEPS * batch_size / max(rows, 1)), _LEAST_PASSES), _MOST_PASSES)
    steps = max(1, rows // (partitions * batch_size))
    passes = min(-(-_STEPS_PER_VISIT // steps), _MOST_PASSES_PER_VISIT, total // _LEAST_EPOCHS)
    return round(total / passes), passes
