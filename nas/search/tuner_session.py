"""What the tuner is asked and told, and what follows for the trials.

A search leads it, and so does whoever recalls a search from its journal: the same questions and
answers, in the same order, bring a tuner to the same point.
"""

from __future__ import annotations

from cerebros_spark.core.types import TrialResult
from nas.search.result_order import ResultOrder
from nas.trial.proposal import Pause, Tuner, Verdicts
from nas.trial.record import TrialRecord
from nas.trial.state import FinishedEpoch, RunningTrial
from nas.trial.table import TrialTable


class TunerSession:
    """Asks and tells the tuner, and notes what it says.

    Args:
        tuner: The tuner.
        ledger: The trials.
        turns: In which order results are heard.
    """

    def __init__(self, tuner: Tuner, ledger: TrialTable, turns: ResultOrder) -> None:
        self.tuner = tuner
        self.ledger = ledger
        self.turns = turns
        self._released: dict[str, bool] = {}  # held trials, and what the tuner has said of them

    def propose(self) -> RunningTrial | Pause:
        """Asks for the next trial."""
        proposal = self.tuner.propose()
        if isinstance(proposal, Pause):
            return proposal
        track = self.ledger.begin(proposal)
        self.turns.begin(track.name, track.index)
        return track

    def learn(self, track: RunningTrial) -> None:
        """Tells which hyperparameters a trial's network has asked for."""
        self.tuner.learn(track.proposal.hyperparameters)

    def take_in(self, track: RunningTrial, epoch: FinishedEpoch) -> tuple[bool, bool | None]:
        """Notes an epoch and tells of it.

        Returns:
            Whether it is the best epoch, and whether the trial goes on; None if it is held.
        """
        improved = self.ledger.take_in(track, epoch)
        trial_id = track.proposal.trial_id
        verdicts = dict(self.tuner.observe(trial_id, epoch.number, epoch.logs))
        proceed = verdicts.pop(trial_id, None)
        self._note(verdicts)
        assert track.spec is not None
        if epoch.stops or track.finished_epochs >= track.spec.epochs:
            proceed = False
        track.held = proceed is None
        self.turns.heard(track.name, proceed)
        return improved, proceed

    def conclude(self, result: TrialResult) -> TrialRecord:
        """Makes a trial that has ended a record, and tells of it."""
        track = self.ledger.tracks[result.trial_id]
        self.turns.end(track.name, trained=track.spec is not None)
        record = self.ledger.end(result)
        self._note(self.tuner.conclude(track.proposal.trial_id, record.status))
        return record

    def let_go(self, track: RunningTrial, proceed: bool) -> None:
        """A trial that was held, or was to go on, goes on or ends."""
        self._released.pop(track.name, None)
        track.held = False
        self.turns.release(track.name, proceed)

    def release(self) -> list[tuple[RunningTrial, bool]]:
        """Lets go the trials that were held and of which the tuner has spoken since.

        Returns:
            Each with whether it goes on, in the order in which the tuner spoke of them.
        """
        said, self._released = self._released, {}
        released = []
        for name, proceed in said.items():
            track = self.ledger.tracks.get(name)
            if track is not None and track.held:
                self.let_go(track, proceed)
                released.append((track, proceed))
        return released

    def _note(self, verdicts: Verdicts) -> None:
        """Keeps what the tuner says of trials that it held."""
        for trial_id, proceed in verdicts.items():
            self._released[self.ledger.name_of(trial_id)] = proceed
