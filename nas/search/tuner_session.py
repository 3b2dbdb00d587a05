"""Calls of a search to its tuner, and their effects on the trials.

A tuner that receives the same calls in the same order reaches the same state. A search is therefore
resumed by replaying the calls.
"""

from __future__ import annotations

import keras_tuner

from cerebros_spark.core.types import TrialResult
from nas.search.result_order import ResultOrder
from nas.trial.proposal import Pause, Tuner, Verdicts, extend_tuner
from nas.trial.record import TrialRecord
from nas.trial.state import FinishedEpoch, RunningTrial
from nas.trial.table import TrialTable
from nas.tuners.cross_validation import CrossValidatingTuner


class TunerSession:
    """Interface to a tuner that applies the tuner's decisions to the trials.

    Args:
        tuner: The tuner.
        objective: Objective of the search.
        by_clock: Whether to handle results in the reproducible order of a virtual clock instead of
            the order of arrival.
    """

    def __init__(self, tuner: Tuner, objective: keras_tuner.Objective, *, by_clock: bool) -> None:
        self.tuner = tuner
        self.table = TrialTable(objective)
        self.order = ResultOrder(self.table.running, by_clock=by_clock)
        self._decisions: dict[str, bool] = {}  # on held trials, in the order of the tuner's calls

    def propose(self) -> RunningTrial | Pause:
        """Add a trial for the tuner's next proposal; return it, or why there is no proposal."""
        proposal = self.tuner.propose()
        if isinstance(proposal, Pause):
            return proposal
        trial = self.table.add(proposal)
        self.order.start(trial)
        return trial

    @property
    def explores(self) -> bool:
        """Whether the tuner may propose new configurations."""
        return bool(getattr(self.tuner, "explores", True))

    def count_fold_trials(self, max_trials: int) -> int:
        """Return the maximum number of cross-validation trials after ``max_trials`` trials.

        It is 0 if the search does not cross-validate.
        """
        tuner = self.tuner
        return tuner.count_fold_trials(max_trials) if isinstance(tuner, CrossValidatingTuner) else 0

    def end_exploration(self, finalists: int | None) -> None:
        """Make the tuner propose no more new configurations.

        Args:
            finalists: Maximum number of configurations to cross-validate. If None, the tuner's
                limit is unchanged.
        """
        if isinstance(self.tuner, CrossValidatingTuner):
            self.tuner.end_exploration(finalists)

    def extend(self, max_trials: int | None) -> None:
        """Notify the tuner that the run is resumed with more trials or more time.

        Args:
            max_trials: New maximum number of trials; None if there is no limit.

        Raises:
            ArgumentError: If the tuner has no method ``extend``.
        """
        extend_tuner(self.tuner, max_trials)

    def learn(self, trial: RunningTrial) -> None:
        """Report to the tuner which hyperparameters a trial's network has declared."""
        self.tuner.learn(trial.proposal.hyperparameters)

    def observe(self, trial: RunningTrial, epoch: FinishedEpoch) -> tuple[bool, bool | None]:
        """Add a finished epoch to its trial and report it to the tuner.

        Returns:
            Whether it is the trial's best epoch so far, and whether the trial continues (None if it
            is held, that is, waits for the tuner's decision).
        """
        improved = trial.add_epoch(self.table.objective, epoch)
        trial_id = trial.proposal.trial_id
        verdicts = dict(self.tuner.observe(trial_id, epoch.number, epoch.logs))
        proceed = verdicts.pop(trial_id, None)
        self._save_decisions(verdicts)
        if epoch.stop:
            proceed = False
        trial.held = proceed is None
        self.order.advance(trial, proceed)
        return improved, proceed

    def conclude(self, result: TrialResult) -> TrialRecord:
        """Move a trial to the ended trials, report its end to the tuner, and return its record."""
        trial = self.table.running[result.trial_id]
        self.order.finish(trial)
        record = self.table.finish(result)
        self._save_decisions(self.tuner.conclude(trial.proposal.trial_id, record.status))
        return record

    def release(self, trial: RunningTrial, proceed: bool) -> None:
        """Release a held trial, so that it continues if ``proceed`` is True, and otherwise ends."""
        self._decisions.pop(trial.name, None)
        trial.held = False
        self.order.release(trial, proceed)

    def release_decided(self) -> list[tuple[RunningTrial, bool]]:
        """Release the held trials on which the tuner has decided.

        Returns:
            The released trials, each with whether it continues.
        """
        decisions, self._decisions = self._decisions, {}
        released = []
        for name, proceed in decisions.items():
            trial = self.table.running.get(name)
            if trial is not None and trial.held:
                self.release(trial, proceed)
                released.append((trial, proceed))
        return released

    def _save_decisions(self, verdicts: Verdicts) -> None:
        for trial_id, proceed in verdicts.items():
            self._decisions[self.table.name_of(trial_id)] = proceed
