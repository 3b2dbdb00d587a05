"""The journal of a run: one line of JSON for each thing that has happened.

Lines that belong together are written together, and are durable before anything acts on them.
What is not in the journal never happened; what is there happened once. Each line carries a digest
of itself and of all lines before it, so a line that was changed, lost or moved is found.

``python -m cerebros_spark.journal RUN`` prints a journal and audits it.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from dataclasses import dataclass
from typing import Any

from cerebros_spark.core.errors import StoreError
from cerebros_spark.storage.store import Store

Record = dict[str, Any]

_DIGEST = 16  # hexadecimal digits
_TAIL = len(',"digest":""}') + _DIGEST


class Journal:
    """Appends to the journal of one run.

    Kinds of records, in the order a trial meets them:

    * ``run``: what was asked for; the first record.
    * ``session``: a driver has begun to work on the run, for the first time or again.
    * ``proposal``: the tuner's values for a trial.
    * ``trial``: the trial was built; its hyperparameters and first state.
    * ``unit``: a finished unit, a :class:`~cerebros_spark.core.types.UnitResult`.
    * ``epoch``: a trial's metrics over all rows.
    * ``answer``: whether the trial goes on, and whether the epoch's state is kept.
    * ``end``: how the trial ended.
    * ``lost``: a worker died. For the reader; nothing is concluded from it.
    * ``done``: the search is over.

    Args:
        store: Where it lies.
        run_id: The run.
        after: What the journal holds already, as :func:`recover` gave it; None for a new one.
    """

    def __init__(self, store: Store, run_id: str, after: Recovered | None = None) -> None:
        self._store = store
        self._run_id = run_id
        self._number = len(after.records) if after else 0
        self._digest = after.digest if after else ""
        self._size = after.size if after else 0
        self._torn = after.torn if after else b""
        self._waiting: list[bytes] = []

    @property
    def address(self) -> str:
        """Where the run is stored, as the commands take it."""
        return self._store.address(f"runs/{self._run_id}").removeprefix("file://")

    def append(self, kind: str, **fields: Any) -> None:
        """Adds one record to those that :meth:`commit` is to write."""
        record = {"number": self._number, "kind": kind, **fields}
        text = json.dumps(record, separators=(",", ":"), default=_plain)
        self._digest = _chained(self._digest, text)
        self._waiting.append(f'{text[:-1]},"digest":"{self._digest}"}}\n'.encode())
        self._number += 1

    def commit(self) -> None:
        """Writes the records that were added; they are durable when this returns.

        Raises:
            StoreError: If they can't be written, or another process writes to the same run.
        """
        if not self._waiting:
            return
        lines = b"".join(self._waiting)
        self._store.append(journal_key(self._run_id), lines, at=self._size, instead_of=self._torn)
        self._torn = b""
        self._size += len(lines)
        self._waiting.clear()

    def discard(self) -> None:
        """Removes the run, unless somebody else has written to its journal since."""
        key = journal_key(self._run_id)
        if self._store.digest(key)[0] == self._size:
            self._store.delete(f"runs/{self._run_id}")


@dataclass(frozen=True)
class Recovered:
    """A journal as it was found.

    Attributes:
        records: Its records, in order.
        digest: The last one's digest.
        size: Bytes they take.
        torn: What comes after them: half a line, cut by a crash.
    """

    records: tuple[Record, ...]
    digest: str
    size: int
    torn: bytes = b""


def journal_key(run_id: str) -> str:
    """Where the journal of a run lies in the store."""
    return f"runs/{run_id}/journal.jsonl"


def read(store: Store, run_id: str) -> tuple[Record, ...]:
    """The records of a run in order. An unfinished last line, cut by a crash, is left out.

    Raises:
        StoreError: If there is no journal, or a line in it is missing or damaged.
    """
    return _parse(store.read(journal_key(run_id)), store.address(journal_key(run_id))).records


def recover(store: Store, run_id: str) -> Recovered:
    """Reads a journal in order to go on with it.

    The first new record takes the place of an unfinished last line; until then nothing is changed,
    for its writer may still live.

    Raises:
        StoreError: As :func:`read`.
    """
    return _parse(store.read(journal_key(run_id)), store.address(journal_key(run_id)))


def _parse(data: bytes, address: str) -> Recovered:
    lines = data.split(b"\n")[:-1]
    records: list[Record] = []
    digest = ""
    for number, line in enumerate(lines):
        text = line[:-_TAIL].decode(errors="replace") + "}"
        expected = _chained(digest, text)
        if line[-_TAIL:] != f',"digest":"{expected}"}}'.encode():
            raise StoreError(
                f"line {number + 1} of {address} is damaged, or lines before it were changed: "
                "restore the file from a copy, or start anew with overwrite=True"
            )
        records.append(json.loads(text))
        digest = expected
    size = sum(len(line) + 1 for line in lines)
    return Recovered(tuple(records), digest, size, data[size:])


def as_written(value: Any) -> Any:
    """A value as it comes back from a journal: tuples as lists, NumPy's numbers as Python's."""
    return json.loads(json.dumps(value, default=_plain))


def _plain(value: Any) -> Any:
    """A frozen value as its fields, a NumPy number as Python's."""
    return vars(value) if dataclasses.is_dataclass(value) else value.item()


def _chained(before: str, text: str) -> str:
    return hashlib.sha256(f"{before}\n{text}".encode()).hexdigest()[:_DIGEST]
