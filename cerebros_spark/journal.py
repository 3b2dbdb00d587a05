"""The journal of a run: one line of JSON for each thing that has happened.

A line is durable before anything acts on it. What is not in the journal never happened; what is
there happened once.
"""

from __future__ import annotations

import json
from typing import Any

from cerebros_spark.errors import StoreError
from cerebros_spark.store import Store


class Journal:
    """Appends to the journal of one run.

    Kinds of records: ``run`` (what was asked for), ``trial`` (a trial, its values and first
    state), ``unit`` (a finished unit: a :class:`~cerebros_spark.types.UnitResult`), ``epoch``
    (a trial's metrics over all rows), ``end`` (how a trial ended).
    """

    def __init__(self, store: Store, run_id: str) -> None:
        self._store = store
        self._key = journal_key(run_id)
        self._number = 0

    def append(self, kind: str, **fields: Any) -> None:
        """Adds one record; it is durable when this returns."""
        record = {"number": self._number, "kind": kind, **fields}
        self._store.append(self._key, json.dumps(record, separators=(",", ":")).encode() + b"\n")
        self._number += 1


def journal_key(run_id: str) -> str:
    """Where the journal of a run lies in the store."""
    return f"runs/{run_id}/journal.jsonl"


def read(store: Store, run_id: str) -> list[dict[str, Any]]:
    """The records of a run in order. An unfinished last line, cut by a crash, is left out.

    Raises:
        StoreError: If there is no journal, or a line in it is missing or damaged.
    """
    lines = store.read(journal_key(run_id)).split(b"\n")
    records = []
    for number, line in enumerate(lines[:-1]):
        try:
            record = json.loads(line)
        except ValueError as error:
            raise StoreError(
                f"line {number + 1} of the journal of {run_id!r} is damaged"
            ) from error
        if not isinstance(record, dict) or record.get("number") != number:
            raise StoreError(f"line {number + 1} of the journal of {run_id!r} is out of order")
        records.append(record)
    return records
