"""Rows per training step, and epochs, of networks for tables."""

from __future__ import annotations

# Training steps that a network needs, about; more epochs than the last hardly help.
_STEPS = 1_600
_LEAST_EPOCHS, _MOST_EPOCHS = 12, 80


def choose_batch_size(rows: int) -> int:
    """Return the number of rows per step (arXiv 2407.04491, appendix A.1; 32 is ours)."""
    for most, size in ((512, 32), (1024, 64), (8192, 128), (30_000, 256), (100_000, 512)):
        if rows <= most:
            return size
    return 1024


def choose_epochs(rows: int, batch_size: int) -> int:
    """Return the number of epochs for a table.

    RealMLP's authors train for 256 epochs. Fewer, of more networks, give a better ensemble in the
    same time.
    """
    return min(max(round(_STEPS * batch_size / max(rows, 1)), _LEAST_EPOCHS), _MOST_EPOCHS)
