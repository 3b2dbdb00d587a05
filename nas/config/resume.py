"""A run that is in the store already: what was asked of it, and whether this is the same."""

from __future__ import annotations

import copy
import hashlib
import json
import logging
import reprlib
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime
from typing import Any

import keras_tuner
import numpy as np

from cerebros_spark.core.errors import ArgumentError
from cerebros_spark.runs.journal import (
    Record,
    RecoveredJournal,
    journal_key,
    recover,
    to_json_types,
)
from cerebros_spark.storage.store import Store
from cerebros_spark.training.keras.metrics import get_merger_key
from cerebros_spark.training.keras.serialization import iterate_dicts
from nas.identity.digest import changed_state, differences, only_values, shown
from nas.spaces.cerebros import CerebrosSpace
from nas.trial.failures import summarize_error

logger = logging.getLogger("nas")

# Compared in their own ways.
_SEPARATE = ("code", "network")
# Of runs that an earlier version recorded, where the decay was a function.
_UNKNOWN_SPACE = "not written down"
#: An attribute of the log record that says that a run is finished.
FINISHED = "finished_run"
_ENDS = ("input_layers", "output_layers")
_ADVICE = "Give another project_name, or overwrite=True to start again"
_WORDS = {
    "partitions": "the number of workers",
    "data": "the data (its rows, columns or split)",
    "compiled": "a head's loss, metrics or number of classes, or evaluation_metric",
    "searched": "a block or another part of the graph that is searched",
    "hypermodel": "the function, HyperModel or model that hypermodel names",
    "layout": "feature_columns, label_columns or input_shape",
    "dtype_policy": "keras.config.dtype_policy()",
    "threads": "the number of threads in a worker",
}


def earlier(store: Store, project_name: str, overwrite: bool) -> RecoveredJournal | None:
    """The journal of an earlier run of that name; None if there is none to go on with.

    Args:
        store: Where runs lie.
        project_name: The run's name.
        overwrite: Whether it is to be replaced.

    Raises:
        StoreError: If its journal is damaged.
    """
    if overwrite or journal_key(project_name) not in store.list(f"runs/{project_name}"):
        return None
    found = recover(store, project_name)
    # Without a proposal its workers never came, or it was killed before it began.
    return found if any(record["kind"] == "proposal" for record in found.records) else None


def check_same(found: RecoveredJournal, asked: Mapping[str, Any], project_name: str) -> None:
    """Check that a run is resumed as it was begun.

    Args:
        found: The run's journal.
        asked: The search configuration of now, as the journal's first record has it.
        project_name: The run's name.

    Raises:
        ArgumentError: If something differs; the message names it.
    """
    recorded = found.records[0]
    now = to_json_types(asked)
    for name, value in now.items():
        if name in _SEPARATE or recorded.get(name) == _UNKNOWN_SPACE:
            continue
        difference = _difference(name, recorded.get(name), value)
        if difference is not None:
            path, before, after = difference
            raise _other_run(project_name, f"{path} = {before}, and now it is {after}{_hint(name)}")
    _check_code(recorded.get("code"), now.get("code", {}), project_name)
    if "network" in recorded:
        _check_network(recorded["network"], now["network"], project_name, "default hyperparameters")


def check_rebuilt(
    record: Record, program: str, build: Callable[[Any, int, str], str], project_name: str
) -> None:
    """Check that a trial's network is still built as it was recorded.

    This finds what no digest of code shows: files, environment variables, other versions of
    packages. And it compares runs whose record has no digests.

    Args:
        record: The trial's record in the journal.
        program: The trial's recorded program.
        build: Builds a program from hyperparameters, the trial's index and its name.
        project_name: The run's name.

    Raises:
        ArgumentError: If the network differs, or can't be built any more.
    """
    name = record["trial"]
    # KerasTuner changes what it reads.
    config = copy.deepcopy(record["hyperparameters"])
    values = keras_tuner.HyperParameters.from_config(config)
    try:
        again = build(values, record["index"], name)
    except Exception as error:
        raise ArgumentError(
            f"cannot resume the run {project_name!r}: the network of {name} can no longer be "
            f"built: {summarize_error(error)}. {_ADVICE}"
        ) from error
    before, now = describe_network(program), describe_network(again)
    _check_network(before, now, project_name, f"the hyperparameters of {name}")


def _check_code(
    before: Mapping[str, Any] | None, now: Mapping[str, Any], project_name: str
) -> None:
    """Compare digests of custom code; a run of an earlier version has none."""
    if before is None or any(before.get(key) != now[key] for key in ("version", "python")):
        recorded = "an earlier version of this package"
        if before is not None and before.get("version") == now["version"]:
            recorded = f"Python {before['python']}"
        logger.warning(
            "the run %r was recorded by %s, so its custom code cannot be compared with today's; "
            "its networks are",
            project_name,
            recorded,
        )
        return
    found = differences(before, now)
    if found:
        one = "it" if len(found) == 1 else "them"
        undo = f"Set {one} back" if only_values(found) else "Undo the edit"
        raise _other_run(project_name, shown(found), f"{undo} to resume it")
    state = changed_state(before, now)
    if state:
        logger.warning(
            "the run %r may have begun with other values of %s: they are not compared",
            project_name,
            ", ".join(dict.fromkeys(state)),
        )


def _check_network(before: Any, now: Any, project_name: str, hyperparameters: str) -> None:
    difference = _difference("network", before, now)
    if difference is not None:
        path, then, after = difference
        raise _other_run(
            project_name,
            f"other networks: for {hyperparameters} {path} was {then}, and now it is {after}",
            "Build the same networks to resume it (they must depend on the hyperparameters alone)",
        )


def _other_run(
    project_name: str, begun: str, advice: str = "Ask for the same to resume it"
) -> ArgumentError:
    return ArgumentError(
        f"there is a run {project_name!r} already, begun with {begun}. {advice}, give another "
        "project_name, or overwrite=True to start again"
    )


def log_finished(found: RecoveredJournal, project_name: str) -> None:
    """Warn that a finished run's result is returned, and that nothing is trained."""
    at = found.records[-1].get("at")
    if at is None:  # recorded by an earlier version
        sessions = [record["at"] for record in found.records if record["kind"] == "session"]
        at = sessions[-1] if sessions else None
        when = "begun" if at else "finished before"
    else:
        when = "finished"
    logger.warning(
        "the run %r was %s%s: nothing is trained, this is its result. To start again, give "
        "overwrite=True or another project_name",
        project_name,
        when,
        f" on {datetime.fromtimestamp(at):%Y-%m-%d at %H:%M:%S}" if at else "",
        extra={FINISHED: True},
    )


def describe_network(program: str) -> dict[str, Any]:
    """Return what tells a network from another, whatever its layers are called.

    Names count on with every layer of a process, so a cell of a notebook that is run again has
    others.
    """
    description = _without_layer_names(json.loads(program))
    architecture, compiled = description["architecture"], description["compile"]
    layers = architecture["config"].get("layers", [architecture])
    return {
        "layers": [f"{each['class_name']} {_digest(each)}" for each in layers],
        "wiring": _digest([architecture["config"].get(end) for end in _ENDS]),
        "optimizer": compiled.get("optimizer"),
        "compiled": _digest({**compiled, "optimizer": None}),
    }


def _without_layer_names(description: dict[str, Any]) -> dict[str, Any]:
    names = list(dict.fromkeys(_layer_names(description["architecture"])))
    places = {name: f"layer {place}" for place, name in enumerate(names)}
    found: dict[str, Any] = _renamed(description, places)
    return found


def _layer_names(architecture: Any) -> Iterator[str]:
    """Names of all layers, in the order of the architecture."""
    for node in iterate_dicts(architecture):
        config = node.get("config")
        name = config.get("name") if isinstance(config, dict) else None
        if "class_name" in node and isinstance(name, str):
            yield name


def _renamed(node: Any, names: Mapping[str, str]) -> Any:
    if isinstance(node, dict):
        return {names.get(key, key): _renamed(value, names) for key, value in node.items()}
    if isinstance(node, list):
        return [_renamed(value, names) for value in node]
    return names.get(node, node) if isinstance(node, str) else node


def _digest(node: Any) -> str:
    return hashlib.sha256(json.dumps(node, sort_keys=True).encode()).hexdigest()[:12]


def describe_space(space: CerebrosSpace | None) -> Any:
    """The bounds of a Cerebros space; the code of functions among them is compared as code."""
    if space is None:
        return None
    try:
        return space.get_config()
    except ArgumentError:
        return {
            name: "a function" if callable(value) else value for name, value in vars(space).items()
        }


def compiled_parts(program: str) -> Any:
    """Losses, metrics and outputs of a program.

    Without the names of the heads: AutoKeras counts them on with every head of the process, so a
    cell of a notebook that is run again has others.
    """
    text = get_merger_key(program)
    names = [output["name"] for output in json.loads(program)["outputs"]]
    for number, name in sorted(enumerate(names), key=lambda each: -len(each[1])):
        text = text.replace(json.dumps(name), json.dumps(f"output {number}"))
    return json.loads(text)


def digest_models(models: Mapping[int, Any] | None) -> dict[str, str]:
    """A digest of each base model's architecture and weights."""
    digests = {}
    for number, model in (models or {}).items():
        digest = hashlib.sha256(json.dumps(model.get_config(), default=repr).encode())
        for weight in model.get_weights():
            digest.update(np.ascontiguousarray(weight).tobytes())
        digests[str(number)] = digest.hexdigest()
    return digests


def _hint(name: str) -> str:
    return f" ({_WORDS[name]})" if name in _WORDS else ""


def _difference(path: str, before: Any, now: Any) -> tuple[str, str, str] | None:
    """The first place in which two JSON values differ, and what is there."""
    if isinstance(before, dict) and isinstance(now, dict):
        for key in sorted({*before, *now}):
            found = _difference(f"{path}.{key}", before.get(key), now.get(key))
            if found is not None:
                return found
        return None
    if isinstance(before, list) and isinstance(now, list) and len(before) == len(now):
        for place, (one, other) in enumerate(zip(before, now, strict=True)):
            found = _difference(f"{path}[{place}]", one, other)
            if found is not None:
                return found
        return None
    return None if before == now else (path, reprlib.repr(before), reprlib.repr(now))
