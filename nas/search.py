"""The search itself: ask the tuner, build the trial, hand it to the engine, tell the tuner."""

from __future__ import annotations

import concurrent.futures
import dataclasses
import logging
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import keras_tuner

from cerebros_spark.engine import Engine
from cerebros_spark.errors import SearchError, StoreError, TrialError
from cerebros_spark.journal import Journal, Record, as_written
from cerebros_spark.training.callbacks import Change, TrialCallbacks
from cerebros_spark.types import (
    EpochAnswer,
    EpochResult,
    StateRef,
    Status,
    TrialResult,
    TrialSpec,
    state_ref,
)
from nas.building import Builder, Built
from nas.objective import better
from nas.progress import Progress
from nas.tracks import Track
from nas.trials import TrialRecord
from nas.tuners.base import Pause, Proposal, Tuner, Verdicts
from nas.turns import Turns
from nas.watching import Watchers

logger = logging.getLogger("nas")

_BUILD_POLL_SECONDS = 0.02
_IDLE_POLL_SECONDS = 5.0


@dataclass(frozen=True)
class Rules:
    """How a search is run.

    Attributes:
        slots: How many trials are in flight at a time; those that are held don't count.
        failures_in_a_row: After so many trials that failed one after the other the search ends;
            None for never.
        by_clock: Hear of results in an order that does not depend on how fast trials are.
    """

    slots: int
    failures_in_a_row: int | None = None
    by_clock: bool = False


class Search:
    """Runs trials until the tuner has no more.

    Args:
        engine: Trains them.
        tuner: Chooses them.
        builder: Builds them.
        objective: What is optimized.
        journal: The run's journal.
        rules: How the search is run.
        progress: Shows how far it is.
        callbacks: Makes the callbacks of a trial; None where there are none.
        fetch: Gives the bytes of a state.
        watchers: Who looks on.
    """

    def __init__(
        self,
        engine: Engine,
        tuner: Tuner,
        builder: Builder,
        objective: keras_tuner.Objective,
        journal: Journal,
        *,
        rules: Rules,
        progress: Progress,
        callbacks: Callable[[TrialSpec], TrialCallbacks] | None,
        fetch: Callable[[StateRef], bytes],
        watchers: Watchers | None = None,
    ) -> None:
        self._engine = engine
        self._tuner = tuner
        self._builder = builder
        self._objective = objective
        self._journal = journal
        self._rules = rules
        self._progress = progress
        self._callbacks = callbacks
        self._fetch = fetch
        self._watchers = watchers or Watchers()
        self._turns = Turns(rules.by_clock)
        self._tracks: dict[str, Track] = {}
        self._records: list[TrialRecord] = []
        self._names: dict[str, str] = {}  # by the tuner's
        self._building: dict[str, concurrent.futures.Future[Built]] = {}
        self._released: dict[str, bool] = {}  # held trials, and what the tuner has said of them
        self._failed: list[TrialRecord] = []  # one after the other, up to now
        self._exhausted = False
        self._waits = False  # the tuner has nothing to propose until it hears more

    def run(self) -> None:
        """Runs the search to its end, or on from where :meth:`recall` has brought it.

        Raises:
            SearchError: If all trials fail, or too many one after the other.
        """
        # One thread builds: networks are made while others train, in the order of proposals.
        with concurrent.futures.ThreadPoolExecutor(1, "cerebros-build") as executor:
            try:
                for name, track in self._tracks.items():
                    if track.spec is None:
                        self._build(executor, name)
                self._release()
                while self._propose(executor):
                    self._listen()
                    self._check_failures()
            except BaseException:
                executor.shutdown(wait=False, cancel_futures=True)
                raise
        self._check_any_score()
        self._journal.append("done")

    @property
    def trials(self) -> tuple[TrialRecord, ...]:
        """The trials so far, in the order they were proposed; those that run included."""
        running = [track.record(Status.RUNNING) for track in self._tracks.values()]
        return tuple(sorted([*self._records, *running], key=lambda record: record.index))

    def recall(self, records: Sequence[Record]) -> None:
        """Brings tuner and trials to where an earlier driver's journal ends.

        The tuner is asked and told again what it was asked and told, in the same order, so it
        comes to the same state, its random generator included.

        Args:
            records: The journal.

        Raises:
            SearchError: If the tuner proposes something else than it did.
        """
        specs = self._engine.specs
        logs: dict[str, Record] = {}
        for record in records:
            name = record.get("trial", "")
            if record["kind"] == "proposal":
                self._recall_proposal(record)
            elif record["kind"] == "trial":
                self._recall_trial(record, specs[name])
            elif record["kind"] == "epoch":
                logs[name] = record
            elif record["kind"] == "answer":
                self._recall_answer(record, logs[name])
            elif record["kind"] == "end":
                if "hyperparameters" in record:
                    _restore(self._tracks[name].proposal, record["hyperparameters"])
                self._conclude(_trial_result(record))
        epochs = sum(record.epochs for record in self.trials)
        left_out = sum(self._builder.epochs - record.epochs for record in self._records)
        self._progress.recall(len(self._records), epochs, left_out)

    # Proposals and builds ----------------------------------------------------------------

    def _propose(self, executor: concurrent.futures.Executor) -> bool:
        """Fills a free slot; False when everything is done.

        One network is built at a time, and the next is proposed when the tuner has learned what
        hyperparameters that one asked for.
        """
        while self._asks and not self._building and self._in_flight < self._rules.slots:
            proposal = self._tuner.propose()
            if proposal is Pause.DONE:
                self._exhausted = True
            self._waits = proposal is Pause.WAIT
            if isinstance(proposal, Pause):
                break
            track = self._track(proposal)
            values = dict(proposal.hyperparameters.values)
            self._journal.append("proposal", trial=track.name, values=values)
            self._build(executor, track.name)
        if self._tracks and not self._in_flight:
            raise SearchError(
                f"{type(self._tuner).__name__} holds {len(self._tracks)} trials and proposes no "
                "other: a tuner must let the trials it holds go on, or end them"
            )
        return bool(self._tracks)

    @property
    def _in_flight(self) -> int:
        return sum(not track.held for track in self._tracks.values())

    def _track(self, proposal: Proposal) -> Track:
        index = len(self._names)
        name = f"trial-{index:04d}"
        self._names[proposal.trial_id] = name
        track = self._tracks[name] = Track(name, index, proposal)
        self._turns.begin(name, index)
        return track

    def _build(self, executor: concurrent.futures.Executor, name: str) -> None:
        self._building[name] = executor.submit(self._construct, self._tracks[name])

    def _construct(self, track: Track) -> Built:
        """Builds a trial: with new weights or its parent's, as its callbacks leave them."""
        proposal = track.proposal
        built = self._builder(track.name, track.index, proposal.hyperparameters, proposal.epochs)
        if proposal.parent is not None:
            built = dataclasses.replace(built, state=self._kept_of(proposal.parent))
        if self._callbacks is not None:
            track.callbacks = self._callbacks(built.spec)
            state = track.callbacks.begin(built.state).state or built.state
            about = as_written({"callbacks": track.callbacks.saved()})
            built = dataclasses.replace(built, state=state, about=about)
        return built

    def _kept_of(self, parent: str) -> bytes:
        name = self._names[parent]
        kept = next((each.state for each in self._records if each.trial_id == name), None)
        if kept is None:
            raise TrialError(f"it was to start from {name}, of which no state was kept")
        return self._fetch(kept)

    def _collect(self) -> None:
        """Hands over the networks that are built, in their order."""
        for name in list(self._building):
            if not self._building[name].done():
                return
            future = self._building.pop(name)
            track = self._tracks[name]
            known = track.proposal.hyperparameters
            try:
                built = future.result()
            except Exception as error:
                self._fail(name, error)
                continue
            track.spec = built.spec
            try:
                self._engine.submit(
                    built.spec, built.state, hyperparameters=known.get_config(), **built.about
                )
            except StoreError as error:
                self._fail(name, error)
                continue
            # In the order of proposals: what the tuner knows must not depend on timing.
            self._tuner.learn(known)

    def _fail(self, name: str, error: Exception) -> None:
        """Ends a trial that never reached the workers."""
        told = "".join(traceback.format_exception(error))
        result = TrialResult(name, Status.FAILED, 0, 0.0, f"{type(error).__name__}: {error}", told)
        fields = dataclasses.asdict(result)
        del fields["trial_id"]
        # What the build had asked for when it failed: the tuner learns of it all the same.
        known = self._tracks[name].proposal.hyperparameters.get_config()
        self._journal.append("end", trial=name, hyperparameters=known, **fields)
        self._end(result)

    # Results -----------------------------------------------------------------------------

    def _listen(self) -> None:
        """Waits for something to happen, and hears of what has."""
        waits = _BUILD_POLL_SECONDS if self._building else _IDLE_POLL_SECONDS
        if self._turns.ready and not (self._rules.by_clock and self._free):
            waits = 0.0
        result = self._engine.wait(waits)
        while result is not None:
            self._turns.came(result)
            result = self._engine.wait(0.0)
        self._collect()
        # By the clock, free slots come first: what is proposed must not depend on how long a
        # network takes to build.
        while not (self._rules.by_clock and self._free):
            told = self._turns.next()
            if told is None:
                return
            self._hear(told)
            if not self._rules.by_clock:
                continue
            result = self._engine.wait(0.0)
            if result is not None:
                self._turns.came(result)

    @property
    def _free(self) -> bool:
        """Whether there is a slot that the tuner has not been asked to fill."""
        slots = self._in_flight < self._rules.slots
        return bool(self._building) or (slots and self._asks)

    @property
    def _asks(self) -> bool:
        """Whether the tuner may have a proposal: it is not asked again before it hears more."""
        return not self._exhausted and not self._waits

    def _hear(self, result: EpochResult | TrialResult) -> None:
        self._waits = False
        if isinstance(result, TrialResult):
            self._engine.conclude(result)
            self._end(result)
            return
        track = self._tracks[result.trial_id]
        answer = self._answer(track, result)
        if answer.keep:
            track.kept = result.state
        self._engine.answer(track.name, answer)
        self._progress.epoch(result.rows, self._best())
        if self._watchers:
            self._watchers.update(track.record(Status.RUNNING))
        self._release()

    def _answer(self, track: Track, result: EpochResult) -> EpochAnswer:
        """What becomes of a trial that has finished an epoch; an error of a callback ends it."""
        try:
            stops, added = self._end_epoch(track, result)
        except StoreError:
            raise  # not the trial's fault: the epoch is answered when the run is gone on with
        except Exception as error:
            return _failed(error)
        improved, proceed = self._take_in(track, result.epoch, result.logs, added, stops)
        if track.callbacks is None:
            return EpochAnswer(proceed, improved)
        try:
            change = self._begin_epoch(track, proceed, result.logs)
            about = as_written({"callbacks": track.callbacks.saved(), "logs": added})
        except Exception as error:
            self._let_go(track, proceed=False)
            return dataclasses.replace(_failed(error), keep=improved, about={"logs": added})
        return EpochAnswer(proceed, improved, change.state, change.learning_rate, about)

    def _end_epoch(self, track: Track, result: EpochResult) -> tuple[bool, dict[str, float]]:
        """Calls the callbacks: whether they stop the trial, and what they add to its metrics."""
        if self._callbacks is None:
            return False, {}
        callbacks = self._awake(track)
        if callbacks.look_at_models:
            callbacks.show(self._fetch(result.state))
        return callbacks.end_epoch(result.epoch, result.logs)

    def _begin_epoch(self, track: Track, proceed: bool | None, logs: dict[str, float]) -> Change:
        assert track.spec is not None
        assert track.callbacks is not None
        if proceed is False:
            track.callbacks.finish(logs)
            return Change()
        return track.callbacks.go_on(track.epochs)

    def _take_in(
        self, track: Track, epoch: int, logs: dict[str, float], added: dict[str, float], stops: bool
    ) -> tuple[bool, bool | None]:
        """Notes an epoch and tells the tuner.

        Returns:
            Whether it is the best epoch, and whether the trial goes on; None if it is held.
        """
        improved = track.take_in(self._objective, epoch, logs)
        track.note(added)
        verdicts = dict(self._tuner.observe(track.proposal.trial_id, epoch, logs))
        proceed = verdicts.pop(track.proposal.trial_id, None)
        self._told(verdicts)
        assert track.spec is not None
        if stops or track.epochs >= track.spec.epochs:
            proceed = False
        track.held = proceed is None
        self._turns.heard(track.name, proceed)
        return improved, proceed

    def _told(self, verdicts: Verdicts) -> None:
        """Takes note of what the tuner says of trials that it held."""
        for trial_id, proceed in verdicts.items():
            self._released[self._names[trial_id]] = proceed

    def _release(self) -> None:
        """Has trials that were held go on, or end, as the tuner has said."""
        for name, proceed in list(self._released.items()):
            del self._released[name]
            track = self._tracks.get(name)
            if track is None or not track.held:
                continue
            self._let_go(track, proceed)
            self._engine.answer(name, self._released_answer(track, proceed))

    def _released_answer(self, track: Track, proceed: bool) -> EpochAnswer:
        if proceed or self._callbacks is None:
            return EpochAnswer(proceed)
        try:
            self._awake(track).finish({})
        except Exception as error:
            return _failed(error)
        return EpochAnswer(proceed)

    def _awake(self, track: Track) -> TrialCallbacks:
        """A trial's callbacks, brought to where an earlier driver's were if need be."""
        if track.callbacks is None:
            assert self._callbacks is not None
            assert track.spec is not None
            track.callbacks = self._callbacks(track.spec)
            track.callbacks.resume(track.saved or [])
        return track.callbacks

    def _let_go(self, track: Track, proceed: bool) -> None:
        track.held = False
        self._turns.release(track.name, proceed)

    def _end(self, result: TrialResult) -> None:
        record = self._conclude(result)
        if record.status is Status.FAILED:
            logger.warning(
                "%s failed: %s\n%s", record.trial_id, record.error, record.traceback or ""
            )
        self._progress.trial(record)
        self._watchers.update(record)
        self._failed = [*self._failed, record] if record.status is Status.FAILED else []
        self._release()

    def _conclude(self, result: TrialResult) -> TrialRecord:
        """Makes a trial that has ended a record, and tells the tuner."""
        track = self._tracks.pop(result.trial_id)
        self._turns.end(track.name, trained=track.spec is not None)
        if result.status is not Status.FAILED and track.score is None:
            reason = f"no epoch had a finite {self._objective.name}"
            result = dataclasses.replace(result, status=Status.FAILED, error=reason)
        record = track.record(result.status, result)
        self._records.append(record)
        self._told(self._tuner.conclude(track.proposal.trial_id, record.status))
        return record

    # What an earlier driver did ----------------------------------------------------------

    def _recall_proposal(self, record: Record) -> None:
        proposal = self._tuner.propose()
        values = None if isinstance(proposal, Pause) else proposal.hyperparameters.values
        if values is None or as_written(values) != record["values"]:
            raise SearchError(
                f"the run can't be gone on with: for {record['trial']} the tuner proposes "
                f"{values!r}, but it proposed {record['values']!r} before. Was keras-tuner or "
                "the space changed? Start anew with overwrite=True or another project_name"
            )
        assert not isinstance(proposal, Pause)
        self._track(proposal)

    def _recall_trial(self, record: Record, spec: TrialSpec) -> None:
        track = self._tracks[record["trial"]]
        _restore(track.proposal, record["hyperparameters"])
        self._tuner.learn(track.proposal.hyperparameters)
        track.spec = spec
        track.saved = record.get("callbacks")

    def _recall_answer(self, record: Record, epoch: Record) -> None:
        track = self._tracks[record["trial"]]
        track.kept = state_ref(record["kept"]) if record["kept"] else None
        if track.held:
            self._released.pop(track.name, None)
            self._let_go(track, record["proceed"])
            return
        track.saved = record.get("callbacks")
        stops = record["proceed"] is False
        failed = record.get("error") is not None
        if not failed or "logs" in record:
            told = self._take_in(
                track, epoch["epoch"], epoch["logs"], record.get("logs", {}), stops
            )
            if not failed and told[1] != record["proceed"]:
                raise SearchError(
                    f"the run can't be gone on with: of {track.name} the tuner says {told[1]!r} "
                    f"after epoch {track.epochs}, but it said {record['proceed']!r} before. Start "
                    "anew with overwrite=True or another project_name"
                )
        if failed and "logs" in record:
            self._let_go(track, proceed=False)

    # How it stands -----------------------------------------------------------------------

    def _check_failures(self) -> None:
        """Raises SearchError if too many trials have failed, one after the other."""
        most = self._rules.failures_in_a_row
        if most is None or len(self._failed) < most:
            return
        first = self._failed[0]
        raise SearchError(
            f"{len(self._failed)} trials failed one after the other; the first, "
            f"{first.trial_id}: {first.error}\n{first.traceback or ''}"
        )

    def _best(self) -> float | None:
        scores = [track.score for track in self._tracks.values()]
        scores += [record.score for record in self._records]  # None if it failed
        best: float | None = None
        for score in scores:
            if score is not None and better(self._objective, score, best):
                best = score
        return best

    def _check_any_score(self) -> None:
        if any(record.score is not None for record in self._records):
            return
        if not self._records:
            raise SearchError("the tuner proposed no trial: the space is empty")
        first = min(self._records, key=lambda record: record.index)
        raise SearchError(
            f"all {len(self._records)} trials failed; the first, {first.trial_id}: {first.error}\n"
            f"{first.traceback or ''}"
        )


def _failed(error: Exception) -> EpochAnswer:
    told = "".join(traceback.format_exception(error))
    return EpochAnswer(proceed=False, error=f"{type(error).__name__}: {error}", traceback=told)


def _restore(proposal: Proposal, config: Record) -> None:
    """Brings a proposal to where building its network brought it."""
    then = keras_tuner.HyperParameters.from_config(config)
    proposal.hyperparameters.merge(then, overwrite=False)
    proposal.hyperparameters.values = then.values


def _trial_result(record: Record) -> TrialResult:
    """Reads a trial's end from the journal."""
    others = ("number", "kind", "trial", "hyperparameters")
    fields = {name: value for name, value in record.items() if name not in others}
    fields["status"] = Status(fields["status"])
    fields["kept"] = None if fields["kept"] is None else state_ref(fields["kept"])
    return TrialResult(trial_id=record["trial"], **fields)
