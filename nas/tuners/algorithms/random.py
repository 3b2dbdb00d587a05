"""Random search (Bergstra and Bengio, JMLR 2012, section 2)."""

from __future__ import annotations

from nas.tuners.base import BaseTuner
from nas.tuners.search_space import Values


class RandomTuner(BaseTuner):
    """Tuner that draws every candidate uniformly from the whole space."""

    adaptive = False

    def choose(self, number: int) -> Values | None:
        """Choose random values."""
        return self.draw_new(self.make_generator(number))
