"""Progress bar of a search in a notebook or a terminal; log lines elsewhere."""

from __future__ import annotations

import contextlib
import logging
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from tqdm.auto import tqdm
from tqdm.contrib.logging import logging_redirect_tqdm

from nas.trial.failures import summarize_error
from nas.trial.record import TrialRecord

logger = logging.getLogger(__name__)

_LOG_SECONDS = 30.0
_BAR_SECONDS = 1.0
_TIME_BAR = "{desc}: {percentage:3.0f}%|{bar}| {n:.0f}/{total:.0f} s{postfix}"


@dataclass(frozen=True)
class PlannedWork:
    """Planned number of trials and epochs of a search, and its time limit.

    Attributes:
        trials: Number of trials, including those that cross-validate on further folds; None if it
            is unknown.
        epochs: Maximum number of epochs of a trial.
        ends_at: Value of ``time.monotonic()``, in seconds, at which the time limit is reached; None
            if there is no limit.
    """

    trials: int | None
    epochs: int
    ends_at: float | None = None


class Progress:
    """Progress display of a search; nothing is shown if ``verbose`` is 0.

    A bar shows the elapsed fraction of the time limit or, if there is no limit, the fraction of
    epochs that are finished. Outside of terminals and notebooks, a line is logged every
    ``log_seconds`` seconds instead, even before the first result.
    """

    def __init__(
        self, work: PlannedWork, objective: str, verbose: int, log_seconds: float = _LOG_SECONDS
    ) -> None:
        self._work = work
        self._log_seconds = log_seconds
        is_timed = work.ends_at is not None
        self._of = "" if is_timed or work.trials is None else f"/{work.trials}"
        self._objective = objective
        self._verbose = verbose
        self._phase = ""
        self._ended_trials = 0
        self._done_epochs = 0  # including the epochs that ended trials skipped
        self._session_epochs = 0  # the done epochs since the first result of this session
        self._rows = 0
        self._best: float | None = None
        self._began = time.monotonic()
        self._first_at: float | None = None  # time of the first result of this session
        self._logged_at = self._began
        in_notebook = "ipykernel" in sys.modules
        shows_bar = bool(verbose) and (sys.stderr.isatty() or in_notebook)
        total: float | None = None
        if work.ends_at is not None:
            total = max(work.ends_at - self._began, 1.0)
        elif work.trials is not None:
            total = work.trials * work.epochs
        self._bar = tqdm(
            total=total,
            unit="epoch",
            disable=not shows_bar,
            dynamic_ncols=True,
            smoothing=0.1,
            bar_format=_TIME_BAR if is_timed else None,
        )
        self._context = contextlib.ExitStack()
        if shows_bar:
            self._context.enter_context(logging_redirect_tqdm())
        elif verbose:
            self._context.enter_context(show_log())
        self._closed = threading.Event()
        self._watcher = threading.Thread(target=self._watch, name="cerebros-progress", daemon=True)
        if verbose:
            self._watcher.start()

    def begin(self, phase: str) -> None:
        """Show the name of the current phase until the next result of the search."""
        self._phase = phase
        if self._verbose and self._bar.disable:
            logger.info(phase)
        self._describe()
        self._bar.refresh()

    def restore(self, trials: Sequence[TrialRecord]) -> None:
        """Add the trials of earlier sessions to the progress."""
        for trial in trials:
            self._done_epochs += self._work.epochs if trial.has_ended else trial.finished_epochs
            self._ended_trials += trial.has_ended
        if self._work.ends_at is None:
            self._bar.update(self._done_epochs)
        self._describe()

    def add_epoch(self, rows: int, best: float | None) -> None:
        """Add a finished epoch of ``rows`` rows, and set the best score so far (None if none)."""
        self._phase = ""
        self._rows += rows
        self._best = best
        self._add_epochs(1)
        self._describe()
        self._log_if_due()

    def add_trial(self, record: TrialRecord) -> None:
        """Add a trial that has ended, and write a line about it."""
        self._ended_trials += 1
        self._add_epochs(self._work.epochs - record.finished_epochs)
        self._describe()
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

    def close(self, finished: bool = False) -> None:
        """Close the bar, which stays visible, and restore logging.

        ``finished`` says whether all work is done, even if it was less than planned.
        """
        self._closed.set()
        try:
            if self._watcher.is_alive():
                # An interrupt may have left the bar locked.
                self._watcher.join(timeout=2.0)
            if finished:
                self._bar.total = self._bar.n
            self._bar.close()
        finally:
            self._context.close()

    def _add_epochs(self, number: int) -> None:
        if self._first_at is None:
            # The time until the first result includes compilation, so it predicts nothing.
            self._first_at = time.monotonic()
        else:
            self._session_epochs += number
        self._done_epochs += number
        if self._work.ends_at is None:
            self._bar.update(number)

    def _watch(self) -> None:
        """Refresh the bar and log lines periodically, in a thread."""
        while not self._closed.wait(min(max(self._log_seconds / 10, 0.01), _BAR_SECONDS)):
            self._log_if_due()
            if not self._bar.disable and self._work.ends_at is not None:
                seconds = time.monotonic() - self._began
                self._bar.update(min(seconds, self._bar.total) - self._bar.n)
            self._bar.refresh()

    def _describe(self) -> None:
        phase = f", {self._phase}" if self._phase else ""
        self._bar.set_description_str(
            f"{self._ended_trials}{self._of} trials{phase}", refresh=False
        )
        self._bar.set_postfix_str(self._describe_speed(), refresh=False)

    def _describe_speed(self) -> str:
        seconds = max(time.monotonic() - self._began, 1e-9)
        best = "none" if self._best is None else f"{self._best:.5g}"
        return f"best {self._objective} {best}, {self._rows / seconds:,.0f} rows/s"

    def _log_if_due(self) -> None:
        now = time.monotonic()
        if not self._verbose or not self._bar.disable or now - self._logged_at < self._log_seconds:
            return
        self._logged_at = now
        logger.info(
            "%s%d%s trials, %d epochs, %s%s",
            f"{self._phase}: " if self._phase else "",
            self._ended_trials,
            self._of,
            self._done_epochs,
            self._describe_speed(),
            self._describe_time_left(now),
        )

    def _describe_time_left(self, now: float) -> str:
        if self._work.ends_at is not None:
            return f", {max(self._work.ends_at - now, 0):.0f} s left"
        if self._work.trials is None or self._first_at is None or not self._session_epochs:
            return ""
        left = max(self._work.trials * self._work.epochs - self._done_epochs, 0)
        seconds = left * (now - self._first_at) / self._session_epochs
        return f", about {seconds:.0f} s left"


@contextlib.contextmanager
def show_activity(text: str, verbose: int, log_seconds: float = _LOG_SECONDS) -> Iterator[None]:
    """Log ``text`` at the start of the block, and then every ``log_seconds`` seconds until its end.

    Nothing is logged if ``verbose`` is 0.
    """
    if not verbose:
        yield
        return
    ended = threading.Event()

    def watch() -> None:
        began = time.monotonic()
        while not ended.wait(log_seconds):
            logger.info("%s: %.0f s so far", text, time.monotonic() - began)

    with show_log():
        logger.info(text)
        threading.Thread(target=watch, name="cerebros-activity", daemon=True).start()
        try:
            yield
        finally:
            ended.set()


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
