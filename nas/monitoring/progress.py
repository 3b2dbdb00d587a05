"""Progress bar of a search in a notebook or a terminal; log lines elsewhere."""

from __future__ import annotations

import contextlib
import logging
import sys
import time
from collections.abc import Iterator, Sequence

from tqdm.auto import tqdm
from tqdm.contrib.logging import logging_redirect_tqdm

from nas.trial.failures import summarize_error
from nas.trial.record import TrialRecord

logger = logging.getLogger(__name__)

_LOG_SECONDS = 30.0


class Progress:
    """Progress of a search, which is shown unless ``verbose`` is 0.

    ``epochs`` is the maximum number of epochs of a trial; ``max_trials`` is None if it is unknown.
    """

    def __init__(self, max_trials: int | None, epochs: int, objective: str, verbose: int) -> None:
        self._max_trials = max_trials
        self._of = "" if max_trials is None else f"/{max_trials}"
        self._epochs = epochs
        self._objective = objective
        self._verbose = verbose
        self._ended_trials = 0
        self._done_epochs = 0  # including the epochs that ended trials left out
        self._rows = 0
        self._best: float | None = None
        self._began = time.monotonic()
        self._logged_at = self._began
        in_notebook = "ipykernel" in sys.modules
        shows_bar = bool(verbose) and (sys.stderr.isatty() or in_notebook)
        self._bar = tqdm(
            total=None if max_trials is None else max_trials * epochs,
            unit="epoch",
            disable=not shows_bar,
            dynamic_ncols=True,
            smoothing=0.1,
            desc=f"0{self._of} trials",
        )
        self._context = contextlib.ExitStack()
        if shows_bar:
            self._context.enter_context(logging_redirect_tqdm())
        elif verbose:
            self._context.enter_context(show_log())

    def restore(self, trials: Sequence[TrialRecord]) -> None:
        """Add the trials of earlier sessions."""
        for trial in trials:
            self._done_epochs += self._epochs if trial.has_ended else trial.finished_epochs
            self._ended_trials += trial.has_ended
        self._describe()
        self._bar.update(self._done_epochs)

    def add_epoch(self, rows: int, best: float | None) -> None:
        """Add a finished epoch with its number of rows, and set the best score; None if unknown."""
        self._rows += rows
        self._done_epochs += 1
        self._best = best
        self._bar.set_postfix_str(self._describe_speed(), refresh=False)
        self._bar.update()
        self._log_if_due()

    def add_trial(self, record: TrialRecord) -> None:
        """Add an ended trial, and write a line about it."""
        self._ended_trials += 1
        self._describe()
        left_out = self._epochs - record.finished_epochs
        self._done_epochs += left_out
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
        """Remove the bar, and restore logging."""
        self._bar.close()
        self._context.close()

    def _describe(self) -> None:
        self._bar.set_description_str(f"{self._ended_trials}{self._of} trials", refresh=False)

    def _describe_speed(self) -> str:
        seconds = max(time.monotonic() - self._began, 1e-9)
        best = "none" if self._best is None else f"{self._best:.5g}"
        return f"best {self._objective} {best}, {self._rows / seconds:,.0f} rows/s"

    def _log_if_due(self) -> None:
        now = time.monotonic()
        if not self._verbose or not self._bar.disable or now - self._logged_at < _LOG_SECONDS:
            return
        self._logged_at = now
        logger.info(
            "%d%s trials, %d epochs, %s%s",
            self._ended_trials,
            self._of,
            self._done_epochs,
            self._describe_speed(),
            self._describe_time_left(now),
        )

    def _describe_time_left(self, now: float) -> str:
        if self._max_trials is None:
            return ""
        share = self._done_epochs / (self._max_trials * self._epochs)
        seconds = (now - self._began) * (1 - share) / max(share, 1e-9)
        return f", about {seconds:.0f} s left"


@contextlib.contextmanager
def show_log() -> Iterator[None]:
    """Show the log lines of the search within the block if logging is not configured."""
    root = logging.getLogger("nas")
    if root.hasHandlers():
        yield
        return
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("%(asctime)s %(message)s", "%X"))
    level = root.level
    root.addHandler(handler)
    root.setLevel(logging.INFO)
    try:
        yield
    finally:
        root.removeHandler(handler)
        root.setLevel(level)
