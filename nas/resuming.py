"""A run that is in the store already: what was asked of it, and whether this is the same."""

from __future__ import annotations

import hashlib
import json
import logging
import reprlib
from collections.abc import Mapping
from typing import Any

import numpy as np

from cerebros_spark.errors import ArgumentError
from cerebros_spark.journal import Recovered, as_written, journal_key, recover
from cerebros_spark.store import Store
from cerebros_spark.training.metrics import merger_key
from nas.spaces.cerebros import CerebrosSpace

logger = logging.getLogger("nas")

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


def earlier(store: Store, project_name: str, overwrite: bool) -> Recovered | None:
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


def check_same(found: Recovered, asked: Mapping[str, Any], project_name: str) -> None:
    """Makes sure that a run is gone on with as it was begun.

    Args:
        found: The run's journal.
        asked: What is asked for now, as the journal's first record has it.
        project_name: The run's name.

    Raises:
        ArgumentError: If something differs; the message names it.
    """
    recorded = found.records[0]
    for name, value in as_written(asked).items():
        difference = _difference(name, recorded.get(name), value)
        if difference is not None:
            path, before, now = difference
            raise ArgumentError(
                f"there is a run {project_name!r} already, begun with {path} = {before}, and now "
                f"it is {now}{_hint(name)}. Ask for the same to go on with it, give another "
                "project_name, or overwrite=True to start anew"
            )


def describe_space(space: CerebrosSpace | None) -> Any:
    """The bounds of a Cerebros space, as far as they can be written down."""
    if space is None:
        return None
    try:
        return space.get_config()
    except ArgumentError as error:
        logger.warning("whether a resumed run has the same space can't be checked: %s", error)
        return "not written down"


def compiled_parts(program: str) -> Any:
    """Losses, metrics and outputs of a program.

    Without the names of the heads: AutoKeras counts them on with every head of the process, so a
    cell of a notebook that is run again has others.
    """
    text = merger_key(program)
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
    return None if before == now else (path, reprlib.repr(before), reprlib.repr(now))
