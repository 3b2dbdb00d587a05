"""Replay of an earlier session's journal, to resume the search."""

from __future__ import annotations

import dataclasses
import logging
import secrets
from collections.abc import Mapping, Sequence
from typing import Any

import keras_tuner
import msgspec

from cerebros_spark.core.errors import SearchError
from cerebros_spark.core.types import TrialResult, TrialSpec
from cerebros_spark.engine.engine import describe_worker_config, start_journal
from cerebros_spark.runs.journal import (
    Journal,
    Record,
    RecoveredJournal,
    journal_key,
    to_json_types,
)
from cerebros_spark.runs.limits import EXTENSION
from cerebros_spark.runs.worker_config import WorkerConfig
from nas.config.resume import check_rebuilt, check_same
from nas.search.trial_builder import TrialBuilder
from nas.search.tuner_session import TunerSession
from nas.trial.proposal import Pause, Proposal
from nas.trial.state import FinishedEpoch

logger = logging.getLogger(__name__)


def choose_seed(seed: int | None, recovered: RecoveredJournal | None) -> int:
    """Return ``seed`` if it is not None, else the resumed run's seed, else a random one."""
    if seed is not None:
        return seed
    if recovered is not None:
        return int(recovered.records[0]["seed"])
    drawn = secrets.randbelow(2**31)
    logger.info("no seed was given; drew %d", drawn)
    return drawn


def count_sessions(recovered: RecoveredJournal | None) -> int:
    """Return the number of sessions in a recovered journal; 0 if there is none."""
    records = recovered.records if recovered else ()
    return sum(record["kind"] == "session" for record in records)


def open_journal(
    job: WorkerConfig, description: dict[str, Any], recovered: RecoveredJournal | None
) -> Journal:
    """Create a new run's journal, or check a resumed run's journal and continue it.

    Args:
        job: Configuration of the workers.
        description: The search configuration as the journal records it.
        recovered: Journal of the earlier sessions; None if the run is new.

    Raises:
        ArgumentError: If the resumed run had a different configuration.
    """
    address = job.store.address(journal_key(job.run_id))
    if recovered is None:
        logger.info("began the journal %s", address)
        job.store.delete(f"runs/{job.run_id}")
        return start_journal(job, **description)
    # The description is compared first: a changed seed also changes the data's fingerprint.
    check_same(recovered, {**description, **describe_worker_config(job)}, job.run_id)
    logger.info("resumed the run with the journal %s", address)
    return Journal(job.store, job.run_id, recovered)


def check_first_trial(
    recovered: RecoveredJournal, specs: Mapping[str, TrialSpec], builder: TrialBuilder
) -> None:
    """Raise ArgumentError unless a resumed run's first trial still builds the same network."""
    first = next((record for record in recovered.records if record["kind"] == "trial"), None)
    if first is None:
        return
    plain_builder = dataclasses.replace(builder, fuse=None)

    def build(hyperparameters: Any, index: int, name: str) -> str:
        return plain_builder.build(name, index, Proposal(name, hyperparameters)).spec.program

    program = specs[first["trial"]].program
    check_rebuilt(first, program, build, recovered.records[0]["run"])


def replay(
    session: TunerSession, records: Sequence[Record], specs: Mapping[str, TrialSpec]
) -> None:
    """Replay journal records of earlier sessions to restore the tuner and the trials.

    The tuner receives the same calls in the same order, so it reaches the same state, including
    that of its random generator.

    Args:
        session: Interface to a new tuner.
        records: All records of the journal, in order.
        specs: Specifications of the built trials, by trial name.

    Raises:
        SearchError: If the tuner's decisions differ from the recorded ones.
    """
    running = session.table.running
    logs: dict[str, Record] = {}
    for record in records:
        name = record.get("trial", "")
        if record["kind"] == "proposal":
            _replay_proposal(session, record)
        elif record["kind"] == "exploration":
            session.end_exploration(record.get("finalists"))
        elif record["kind"] == EXTENSION:
            session.extend(record["max_trials"])
        elif record["kind"] == "trial":
            _replay_build(session, record, specs[name])
        elif record["kind"] == "epoch":
            logs[name] = record
        elif record["kind"] == "answer":
            _replay_answer(session, record, logs[name])
        elif record["kind"] == "end":
            if "hyperparameters" in record:
                _restore(running[name].proposal, record["hyperparameters"])
            session.conclude(msgspec.convert(record, TrialResult))


def _replay_proposal(session: TunerSession, record: Record) -> None:
    trial = session.propose()
    values = None if isinstance(trial, Pause) else trial.proposal.hyperparameters.values
    if values is None or to_json_types(values) != record["values"]:
        raise SearchError(
            f"cannot resume the run: the tuner now proposes {values!r} for {record['trial']}, but "
            f"it proposed {record['values']!r} before. Was keras-tuner or the space changed? "
            "Start again with overwrite=True or another project_name"
        )


def _replay_build(session: TunerSession, record: Record, spec: TrialSpec) -> None:
    trial = session.table.running[record["trial"]]
    _restore(trial.proposal, record["hyperparameters"])
    session.learn(trial)
    trial.spec = spec
    trial.saved = record.get("callbacks")


def _replay_answer(session: TunerSession, record: Record, epoch: Record) -> None:
    trial = session.table.running[record["trial"]]
    trial.restore_kept(record)
    if trial.held:
        session.release(trial, record["proceed"])
        return
    trial.saved = record.get("callbacks")
    stop = record["proceed"] is False
    failed = record.get("error") is not None
    if not failed or "logs" in record:
        finished = FinishedEpoch(epoch["epoch"], epoch["logs"], record.get("logs", {}), stop)
        _, proceed = session.observe(trial, finished)
        if not failed and proceed != record["proceed"]:
            raise SearchError(
                f"cannot resume the run: after epoch {trial.finished_epochs} of {trial.name} the "
                f"tuner now answers {proceed!r}, but it answered {record['proceed']!r} before; "
                "start again with overwrite=True or another project_name"
            )
    if failed and "logs" in record:
        session.release(trial, proceed=False)


def _restore(proposal: Proposal, config: Record) -> None:
    """Restore a proposal's hyperparameters, including those declared while building its network."""
    built = keras_tuner.HyperParameters.from_config(config)
    proposal.hyperparameters.merge(built, overwrite=False)
    proposal.hyperparameters.values = built.values
