"""Detection of an earlier run of the same name, and comparison with its configuration."""

from __future__ import annotations

import copy
import logging
import reprlib
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any

import keras_tuner

from cerebros_spark.core.errors import ArgumentError
from cerebros_spark.runs.journal import (
    Record,
    RecoveredJournal,
    journal_key,
    recover,
    to_json_types,
)
from cerebros_spark.storage.store import Store
from nas.config.description import describe_network
from nas.identity.digest import (
    are_values,
    find_changed_values,
    find_differences,
    format_differences,
)
from nas.trial.failures import summarize_error

logger = logging.getLogger(__name__)

# Compared by separate functions.
_SEPARATE = ("code", "network", "max_trials", "max_seconds")
# Recorded by an earlier version if a decay was a function.
_UNKNOWN_SPACE = "not written down"
#: Attribute of the log record that reports a finished run.
FINISHED = "finished_run"
_ADVICE = "Give another project_name, or overwrite=True to start again"
_HINTS = {
    "partitions": "the number of workers",
    "data": "the data (its rows, columns or split)",
    "compiled": "a head's loss, metrics or number of classes, or evaluation_metric",
    "searched": "a block or another part of the graph that is searched",
    "hypermodel": "the function, HyperModel or model that hypermodel names",
    "layout": "feature_columns, label_columns or input_shape",
    "selection": "validation of resource_bind; ensemble_size and max_seconds of fit",
    "dtype_policy": "keras.config.dtype_policy()",
    "threads": "the number of threads in a worker",
}


def find_earlier_run(store: Store, project_name: str, overwrite: bool) -> RecoveredJournal | None:
    """Return the journal of the run to resume, or None if there is no such run.

    A run whose journal has no trial proposals is ignored. If ``overwrite`` is True, every run is
    ignored.
    """
    if overwrite or journal_key(project_name) not in store.list(f"runs/{project_name}"):
        return None
    recovered = recover(store, project_name)
    # Without a proposal its workers never started, or the driver died before the search began.
    has_proposal = any(record["kind"] == "proposal" for record in recovered.records)
    return recovered if has_proposal else None


def check_same(
    recovered: RecoveredJournal, description: Mapping[str, Any], project_name: str
) -> None:
    """Raise ArgumentError if ``description`` differs from the configuration of the earlier run.

    The limits ``max_trials`` and ``max_seconds`` are not compared here.
    """
    recorded = recovered.records[0]
    now = to_json_types(description)
    for name, value in now.items():
        if name in _SEPARATE or recorded.get(name) == _UNKNOWN_SPACE:
            continue
        difference = _find_difference(name, recorded.get(name), value)
        if difference is not None:
            path, before, after = difference
            hint = f" ({_HINTS[name]})" if name in _HINTS else ""
            raise _other_run(project_name, f"{path} = {before}, and now it is {after}{hint}")
    _check_code(recorded.get("code"), now.get("code", {}), project_name)
    if "network" in recorded:
        _check_network(recorded["network"], now["network"], project_name, "default hyperparameters")


def check_rebuilt(
    record: Record, program: str, build: Callable[[Any, int, str], str], project_name: str
) -> None:
    """Raise ArgumentError if rebuilding a trial's network no longer gives the recorded one.

    This detects changes that code digests do not cover: in files or environment variables that the
    code reads, or in package versions. For runs of earlier versions of this package, which have no
    digests, it is the only such check.

    Args:
        record: The trial's record in the journal.
        program: The trial's recorded network, serialized.
        build: Function of the trial's hyperparameters, index and name that returns the serialized
            network.
        project_name: Name of the run.
    """
    name = record["trial"]
    config = copy.deepcopy(record["hyperparameters"])  # KerasTuner modifies it
    try:
        rebuilt = build(keras_tuner.HyperParameters.from_config(config), record["index"], name)
    except Exception as error:
        raise ArgumentError(
            f"cannot resume the run {project_name!r}: the network of {name} can no longer be "
            f"built: {summarize_error(error)}. {_ADVICE}"
        ) from error
    before, now = describe_network(program), describe_network(rebuilt)
    _check_network(before, now, project_name, f"the hyperparameters of {name}")


def log_finished(recovered: RecoveredJournal, project_name: str) -> None:
    """Warn that the run is already finished and that its result is returned without training."""
    at, verb = recovered.records[-1].get("at"), "finished"
    if at is None:  # a run of an earlier version
        sessions = [record["at"] for record in recovered.records if record["kind"] == "session"]
        at = sessions[-1] if sessions else None
        verb = "begun" if at else "finished before"
    logger.warning(
        "the run %r was %s%s: nothing is trained, this is its result. To go on, give a larger "
        "max_trials or max_seconds; to start again, overwrite=True or another project_name",
        project_name,
        verb,
        f" on {datetime.fromtimestamp(at):%Y-%m-%d at %H:%M:%S}" if at else "",
        extra={FINISHED: True},
    )


def _check_code(
    before: Mapping[str, Any] | None, now: Mapping[str, Any], project_name: str
) -> None:
    """Raise ArgumentError if custom code has changed; warn if its digests are not comparable."""
    if before is None or any(before.get(key) != now[key] for key in ("version", "python")):
        recorder = "an earlier version of this package"
        if before is not None and before.get("version") == now["version"]:
            recorder = f"Python {before['python']}"
        logger.warning(
            "the run %r was recorded by %s, so its custom code is not compared with the current "
            "code; its networks are",
            project_name,
            recorder,
        )
        return
    changed = find_differences(before, now)
    if changed:
        pronoun = "it" if len(changed) == 1 else "them"
        undo = f"Set {pronoun} back" if are_values(changed) else "Undo the edit"
        raise _other_run(project_name, format_differences(changed), f"{undo} to resume it")
    variables = find_changed_values(before, now)
    if variables:
        logger.warning(
            "the run %r may have begun with other values of %s: they are not compared",
            project_name,
            ", ".join(dict.fromkeys(variables)),
        )


def _check_network(before: Any, now: Any, project_name: str, hyperparameters: str) -> None:
    difference = _find_difference("network", before, now)
    if difference is not None:
        path, then, after = difference
        raise _other_run(
            project_name,
            f"other networks: for {hyperparameters} {path} was {then}, and now it is {after}",
            "Build the same networks to resume it (they must depend on the hyperparameters alone)",
        )


def _other_run(
    project_name: str, begun: str, advice: str = "Use the same value to resume it"
) -> ArgumentError:
    return ArgumentError(
        f"there is a run {project_name!r} already, begun with {begun}. {advice}, give another "
        "project_name, or overwrite=True to start again"
    )


def _find_difference(path: str, before: Any, now: Any) -> tuple[str, str, str] | None:
    """Return the path and both values of the first difference in JSON data; None if equal."""
    if isinstance(before, dict) and isinstance(now, dict):
        pairs = [(f"{path}.{key}", before.get(key), now.get(key)) for key in {*before, *now}]
        pairs.sort(key=lambda pair: pair[0])
    elif isinstance(before, list) and isinstance(now, list) and len(before) == len(now):
        pairs = [(f"{path}[{i}]", *pair) for i, pair in enumerate(zip(before, now, strict=True))]
    else:
        return None if before == now else (path, reprlib.repr(before), reprlib.repr(now))
    differences_inside = (_find_difference(*pair) for pair in pairs)
    return next((each for each in differences_inside if each is not None), None)
