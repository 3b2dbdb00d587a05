"""Named random streams: every random draw in a search comes from one seed and a name."""

from __future__ import annotations

import hashlib


def derive(seed: int, *names: str | int) -> int:
    """Derives the seed of one named random stream.

    The result depends on nothing but its arguments: it is the same on every machine, in every
    Python process and in any order of calls, and streams of different names are independent.

    Args:
        seed: The seed of the run.
        *names: What the stream is for, for example ``("trial-0003", "epoch", 4, "partition", 1)``.
            ``1`` and ``"1"`` are different names.

    Returns:
        An integer in ``[0, 2**32)``, which every generator in use (Python, NumPy, Keras) accepts.
    """
    text = "\x1f".join([repr(int(seed)), *(repr(name) for name in names)])
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "big")


def unit_seed(seed: int, trial_id: str, epoch: int, partition: int) -> int:
    """The seed of everything that is drawn in one training unit."""
    return derive(seed, trial_id, "epoch", epoch, "partition", partition)
