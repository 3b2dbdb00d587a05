"""Brings the dialogue with a tuner, and with it the trials, to where an earlier journal ends."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import keras_tuner

from cerebros_spark.core.errors import SearchError
from cerebros_spark.core.types import Status, TrialResult, TrialSpec, state_ref
from cerebros_spark.runs.journal import Record, to_json_types
from nas.search.tuner_session import TunerSession
from nas.trial.proposal import Pause, Proposal
from nas.trial.state import FinishedEpoch


def recall(
    dialogue: TunerSession, records: Sequence[Record], specs: Mapping[str, TrialSpec]
) -> None:
    """Brings tuner and trials to where an earlier driver's journal ends.

    The tuner is asked and told again what it was asked and told, in the same order, so it
    comes to the same state, its random generator included.

    Args:
        dialogue: The dialogue with a new tuner, not begun.
        records: The journal.
        specs: The trials that were built, by name.

    Raises:
        SearchError: If the tuner proposes something else than it did.
    """
    tracks = dialogue.ledger.tracks
    logs: dict[str, Record] = {}
    for record in records:
        name = record.get("trial", "")
        if record["kind"] == "proposal":
            _proposal(dialogue, record)
        elif record["kind"] == "trial":
            _trial(dialogue, record, specs[name])
        elif record["kind"] == "epoch":
            logs[name] = record
        elif record["kind"] == "answer":
            _answer(dialogue, record, logs[name])
        elif record["kind"] == "end":
            if "hyperparameters" in record:
                _restore(tracks[name].proposal, record["hyperparameters"])
            dialogue.conclude(_trial_result(record))


def _proposal(dialogue: TunerSession, record: Record) -> None:
    track = dialogue.propose()
    values = None if isinstance(track, Pause) else track.proposal.hyperparameters.values
    if values is None or to_json_types(values) != record["values"]:
        raise SearchError(
            f"cannot resume the run: the tuner now proposes {values!r} for {record['trial']}, but "
            f"it proposed {record['values']!r} before. Was keras-tuner or the space changed? "
            "Start again with overwrite=True or another project_name"
        )


def _trial(dialogue: TunerSession, record: Record, spec: TrialSpec) -> None:
    track = dialogue.ledger.tracks[record["trial"]]
    _restore(track.proposal, record["hyperparameters"])
    dialogue.learn(track)
    track.spec = spec
    track.saved = record.get("callbacks")


def _answer(dialogue: TunerSession, record: Record, epoch: Record) -> None:
    track = dialogue.ledger.tracks[record["trial"]]
    track.kept = state_ref(record["kept"]) if record["kept"] else None
    if track.held:
        dialogue.let_go(track, record["proceed"])
        return
    track.saved = record.get("callbacks")
    stops = record["proceed"] is False
    failed = record.get("error") is not None
    if not failed or "logs" in record:
        finished = FinishedEpoch(epoch["epoch"], epoch["logs"], record.get("logs", {}), stops)
        _, proceed = dialogue.take_in(track, finished)
        if not failed and proceed != record["proceed"]:
            raise SearchError(
                f"cannot resume the run: after epoch {track.finished_epochs} of {track.name} the "
                f"tuner now answers {proceed!r}, but it answered {record['proceed']!r} before; "
                "start again with overwrite=True or another project_name"
            )
    if failed and "logs" in record:
        dialogue.let_go(track, proceed=False)


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
