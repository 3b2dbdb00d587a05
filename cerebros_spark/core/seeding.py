"""Named random streams: every random draw of a search derives from one seed and a name."""

from __future__ import annotations

import hashlib


def derive_seed(seed: int, *names: str | int) -> int:
    """Derive the seed, in ``[0, 2**32)``, of a named random stream of a run.

    The result is the same on every machine and in every process. Streams with different names are
    independent; ``1`` and ``"1"`` are different names.
    """
    text = "\x1f".join([repr(int(seed)), *(repr(name) for name in names)])
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "big")


def derive_unit_seed(seed: int, trial_id: str, epoch: int, partition: int) -> int:
    """Derive the seed, in ``[0, 2**32)``, of a trial's training on one partition in one epoch."""
    return derive_seed(seed, trial_id, "epoch", epoch, "partition", partition)
