"""A search without training: a tuner with a cheap function and trials that end in any order."""

from __future__ import annotations

import copy
import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from cerebros_spark.core.types import Status
from nas.trial.proposal import Pause, Proposal, Tuner

Logs = dict[str, float]


class SimulatedError(Exception):
    """Raised by a function: the trial fails."""


@dataclass
class Trial:
    """A simulated trial; ``builds`` may declare more hyperparameters."""

    proposal: Proposal
    number: int
    epochs: int
    done: int = 0
    status: Status | None = None
    scores: list[Logs] = field(default_factory=list)

    @property
    def values(self) -> dict[str, Any]:
        return dict(self.proposal.hyperparameters.values)


class Simulation:
    """Runs a tuner.

    Args:
        tuner: The tuner.
        function: The metrics of an epoch from the values and the epochs so far, the parent's
            included; may raise ``SimulatedError``.
        in_flight: Trials that train at a time, without held ones.
        epochs: Epochs of a trial whose proposal has none.
        seed: Seed of the order in which trials finish their epochs.
        builds: Called with the hyperparameters to build a trial, as a space would be; may raise
            ``SimulatedError``.
    """

    def __init__(
        self,
        tuner: Tuner,
        function: Callable[[Mapping[str, Any], int], Logs],
        *,
        in_flight: int = 1,
        epochs: int = 1,
        seed: int = 0,
        builds: Callable[[Any], Any] = lambda hp: None,
    ) -> None:
        self.tuner = tuner
        self.trials: dict[str, Trial] = {}
        self.events: list[tuple[Any, ...]] = []
        self.over = False
        self._function = function
        self._builds = builds
        self._in_flight = in_flight
        self._epochs = epochs
        self._order = random.Random(seed)
        self._training: list[str] = []
        self._held: list[str] = []
        self._exhausted = False

    # Results -----------------------------------------------------------------------------

    @property
    def values(self) -> list[dict[str, Any]]:
        """The values of the trials, in the order they were proposed."""
        return [trial.values for trial in self.trials.values()]

    def best(self, metric: str = "val_loss") -> float:
        """The least value of a metric in any epoch of a trial that did not fail."""
        good = [t for t in self.trials.values() if t.status is not Status.FAILED]
        found = [logs[metric] for trial in good for logs in trial.scores]
        return min(value for value in found if value == value)

    # Running -----------------------------------------------------------------------------

    def run(self, steps: int = 10**6) -> Simulation:
        """Run to the end, or for some steps: a proposal, an epoch or an end each."""
        for _ in range(steps):
            if self.over:
                return self
            self._step()
        assert steps < 10**6, "the search has no end"
        return self

    def resumed(self, tuner: Tuner) -> Simulation:
        """Return this search with a new tuner that gets the same calls."""
        twin = copy.copy(self)
        twin.tuner = tuner
        twin.trials = {}
        twin.events = list(self.events)
        twin._order = copy.deepcopy(self._order)
        twin._training, twin._held = list(self._training), list(self._held)
        for kind, name, *details in self.events:
            if kind == "proposal":
                twin._repeat(name, self.trials[name], details[0])
            elif kind == "epoch":
                tuner.observe(name, *details)
                twin.trials[name].scores.append(details[1])
                twin.trials[name].done += 1
            elif kind == "end":
                tuner.conclude(name, details[0])
                twin.trials[name].status = details[0]
        return twin

    def _repeat(self, name: str, before: Trial, values: Mapping[str, Any]) -> None:
        proposal = self.tuner.propose()
        assert isinstance(proposal, Proposal)
        assert proposal.trial_id == name
        assert proposal.hyperparameters.values == values
        assert (proposal.epochs, proposal.parent) == (
            before.proposal.epochs,
            before.proposal.parent,
        )
        self.trials[name] = Trial(proposal, before.number, before.epochs)
        self._build(name)

    def _step(self) -> None:
        if not self._exhausted and len(self._training) < self._in_flight and self._propose():
            return
        if self._training:
            self._train(self._order.choice(self._training))
        elif self._held and self._exhausted:
            self._end(self._held[0], Status.STOPPED)
        else:
            assert self._exhausted, f"the tuner waits without reason; held: {self._held}"
            assert self.tuner.propose() is Pause.DONE, "a tuner that is done stays done"
            self.over = True

    def _propose(self) -> bool:
        proposal = self.tuner.propose()
        if isinstance(proposal, Pause):
            self._exhausted = proposal is Pause.DONE
            return False
        name = proposal.trial_id
        assert name not in self.trials
        if proposal.parent is not None:
            assert self.trials[proposal.parent].status is not None, "a parent has ended"
        epochs = self._epochs if proposal.epochs is None else proposal.epochs
        assert epochs >= 1
        self.trials[name] = Trial(proposal, len(self.trials), epochs)
        self.events.append(("proposal", name, dict(proposal.hyperparameters.values)))
        if self._build(name):
            self._training.append(name)
        else:
            self._training.append(name)
            self._end(name, Status.FAILED)
        return True

    def _build(self, name: str) -> bool:
        hyperparameters = self.trials[name].proposal.hyperparameters
        try:
            self._builds(hyperparameters)
        except SimulatedError:
            return False
        self.tuner.learn(hyperparameters)
        return True

    def _train(self, name: str) -> None:
        trial = self.trials[name]
        before, parent = 0, trial.proposal.parent
        while parent is not None:
            before += self.trials[parent].done
            parent = self.trials[parent].proposal.parent
        try:
            logs = self._function(trial.values, before + trial.done)
        except SimulatedError:
            self._end(name, Status.FAILED)
            return
        trial.scores.append(logs)
        self.events.append(("epoch", name, trial.done, logs))
        verdicts = dict(self.tuner.observe(name, trial.done, logs))
        trial.done += 1
        if trial.done == trial.epochs:
            # After the last epoch the tuner's decision has no effect.
            verdicts.pop(name, None)
            self._end(name, Status.COMPLETED)
        elif name not in verdicts:
            self._training.remove(name)
            self._held.append(name)
        self._apply(verdicts)

    def _end(self, name: str, status: Status) -> None:
        trial = self.trials[name]
        trial.status = status
        (self._held if name in self._held else self._training).remove(name)
        self.events.append(("end", name, status))
        self._apply(self.tuner.conclude(name, status))

    def _apply(self, verdicts: Mapping[str, bool]) -> None:
        for name, proceed in verdicts.items():
            assert name in self.trials
            assert self.trials[name].status is None, f"{name} has ended already"
            if not proceed:
                self._end(name, Status.STOPPED)
            elif name in self._held:
                self._held.remove(name)
                self._training.append(name)
