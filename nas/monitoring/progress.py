"""One progress bar for a search, in a notebook or a terminal; log lines elsewhere."""

from __future__ import annotations

import contextlib
import logging
import sys
import time
from collections.abc import Iterator, Sequence

from tqdm.auto import tqdm
from tqdm.contrib.logging import logging_redirect_tqdm

from cerebros_spark.core.types import Status
from nas.trial.failures import summarize_error
from nas.trial.record import TrialRecord

logger = logging.getLogger("nas")

_LOG_SECONDS = 30.0


class Progress:
    """Shows how far a search is.

    Args:
        max_trials: Number of trials; None if it is not known.
        epochs: Epochs of a trial, at most.
        objective: Name of what is optimized.
        verbose: 0 shows nothing.
    """

    def __init__(self, max_trials: int | None, epochs: int, objective: str, verbose: int) -> None:
        self._max_trials = max_trials
        self._of = "" if max_trials is None else f"/{max_trials}"
        self._epochs = epochs
        self._objective = objective
        self._verbose = verbose
        self._ended = 0
        self._done = 0
        self._rows = 0
        self._best: float | None = None
        self._began = time.monotonic()
        self._logged = self._began
        shown = bool(verbose) and (sys.stderr.isatty() or _in_notebook())
        self._bar = tqdm(
            total=None if max_trials is None else max_trials * epochs,
            unit="epoch",
            disable=not shown,
            dynamic_ncols=True,
            smoothing=0.1,
            desc=f"0{self._of} trials",
        )
        self._context = contextlib.ExitStack()
        if shown:
            self._context.enter_context(logging_redirect_tqdm())
        elif verbose:
            self._context.enter_context(_audible())

    def recall(self, trials: Sequence[TrialRecord]) -> None:
        """An earlier session has done this much."""
        ended = [record for record in trials if record.status is not Status.RUNNING]
        done = sum(record.finished_epochs for record in trials)
        done += sum(self._epochs - record.finished_epochs for record in ended)  # what they left out
        self._ended += len(ended)
        self._done += done
        self._bar.set_description_str(f"{self._ended}{self._of} trials", refresh=False)
        self._bar.update(done)

    def epoch(self, rows: int, best: float | None) -> None:
        """An epoch of a trial has finished."""
        self._rows += rows
        self._done += 1
        self._best = best
        self._bar.set_postfix_str(self._state(), refresh=False)
        self._bar.update()
        self._log_now_and_then()

    def trial(self, record: TrialRecord) -> None:
        """A trial has ended: one line."""
        self._ended += 1
        self._bar.set_description_str(f"{self._ended}{self._of} trials", refresh=False)
        left_out = self._epochs - record.finished_epochs
        self._done += left_out
        self._bar.update(left_out)
        if not self._verbose:
            return
        score = "no score" if record.score is None else f"{self._objective} {record.score:.6g}"
        line = (
            f"{record.trial_id} {record.status.value}: {score}, {record.finished_epochs} epochs, "
            f"{record.parameters:,} parameters, {record.seconds:.1f} s"
        )
        if record.error:
            line += f" ({summarize_error(record.error)})"
        if self._bar.disable or logger.isEnabledFor(logging.INFO):
            logger.info(line)
        else:
            self._bar.write(line, file=sys.stderr)

    def close(self) -> None:
        """Takes the bar off."""
        self._bar.close()
        self._context.close()

    def _state(self) -> str:
        seconds = max(time.monotonic() - self._began, 1e-9)
        best = "none" if self._best is None else f"{self._best:.5g}"
        return f"best {self._objective} {best}, {self._rows / seconds:,.0f} rows/s"

    def _log_now_and_then(self) -> None:
        now = time.monotonic()
        if not self._verbose or not self._bar.disable or now - self._logged < _LOG_SECONDS:
            return
        self._logged = now
        logger.info(
            "%d%s trials, %d epochs, %s%s",
            self._ended,
            self._of,
            self._done,
            self._state(),
            self._left(now),
        )

    def _left(self, now: float) -> str:
        if self._max_trials is None:
            return ""
        share = self._done / (self._max_trials * self._epochs)
        left = (now - self._began) * (1 - share) / max(share, 1e-9)
        return f", about {left:.0f} s left"


@contextlib.contextmanager
def _audible() -> Iterator[None]:
    """Shows the search's log lines where nobody has set up logging."""
    if logger.hasHandlers():
        yield
        return
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("%(asctime)s %(message)s", "%X"))
    level = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.setLevel(level)


def _in_notebook() -> bool:
    return "ipykernel" in sys.modules
