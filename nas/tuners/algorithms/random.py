"""Random search (Bergstra and Bengio, JMLR 2012, section 2)."""

from __future__ import annotations

from nas.tuners.base import BaseTuner
from nas.tuners.search_space import Values


class RandomTuner(BaseTuner):
    """Tuner that draws every candidate at random, according to each hyperparameter's sampling."""

    adaptive = False

    def choose(self, number: int) -> Values | None:
        """Draw random values; None if no new values are left."""
        return self.draw_new(self.make_generator(number))
