"""The journal of a run: one line of JSON for each event.

Lines of one commit are written together, and are durable before anything acts on them. Each line
has a digest of itself and of all lines before it, so a changed, lost or moved line is found.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from dataclasses import dataclass
from typing import Any

import msgspec

from cerebros_spark.core.errors import ArgumentError, StoreError
from cerebros_spark.storage.store import Store

Record = dict[str, Any]

_DIGEST = 16  # hexadecimal digits
_TAIL = len(',"digest":""}') + _DIGEST
_NOT_SHOWN = frozenset({"number", "kind", "trial", "hyperparameters", "traceback", "values"})


class Journal:
    """Appends to the journal of one run.

    Kinds of records, in the order of a trial's life:

    * ``run``: the search configuration; the first record.
    * ``session``: a driver has started or resumed the run.
    * ``proposal``: the tuner's values for a trial.
    * ``trial``: the trial was built; its hyperparameters and first state.
    * ``unit``: a finished unit, a :class:`~cerebros_spark.core.types.UnitResult`.
    * ``epoch``: a trial's metrics over all rows.
    * ``answer``: whether the trial continues, and whether the epoch's state is kept.
    * ``end``: how the trial ended.
    * ``lost``: a worker died. For the reader; nothing depends on it.
    * ``done``: the search is finished.

    Args:
        store: Store of the run.
        run_id: The run.
        after: The existing journal, as :func:`recover` returned it; None for a new one.
    """

    def __init__(self, store: Store, run_id: str, after: RecoveredJournal | None = None) -> None:
        self._store = store
        self._run_id = run_id
        self._number = len(after.records) if after else 0
        self._digest = after.digest if after else ""
        self._size = after.size if after else 0
        self._torn = after.torn if after else b""
        self._lines: list[bytes] = []

    @property
    def address(self) -> str:
        """Address of the run, as the commands take it."""
        return self._store.address(f"runs/{self._run_id}").removeprefix("file://")

    def append(self, kind: str, **fields: Any) -> None:
        """Add a record to the next commit."""
        record = {"number": self._number, "kind": kind, **fields}
        text = json.dumps(record, separators=(",", ":"), default=_to_json)
        self._digest = _chain(self._digest, text)
        self._lines.append(f'{text[:-1]},"digest":"{self._digest}"}}\n'.encode())
        self._number += 1

    def commit(self) -> None:
        """Write the added records; they are durable when this returns.

        Raises:
            StoreError: If they can't be written, or another process writes to the same run.
        """
        if not self._lines:
            return
        data = b"".join(self._lines)
        self._store.append(journal_key(self._run_id), data, at=self._size, instead_of=self._torn)
        self._torn = b""
        self._size += len(data)
        self._lines.clear()

    def discard(self) -> None:
        """Delete the run, unless another process has written to its journal since."""
        key = journal_key(self._run_id)
        if self._store.digest(key)[0] == self._size:
            self._store.delete(f"runs/{self._run_id}")


@dataclass(frozen=True)
class RecoveredJournal:
    """A journal as it was read.

    Attributes:
        records: Its records, in order.
        digest: Digest of the last one.
        size: Size of the records, in bytes.
        torn: Bytes after them: an unfinished line, cut by a crash.
    """

    records: tuple[Record, ...]
    digest: str
    size: int
    torn: bytes = b""


def journal_key(run_id: str) -> str:
    """Return the key of a run's journal."""
    return f"runs/{run_id}/journal.jsonl"


def locate_run(run: str) -> tuple[Store, str]:
    """Return the store and the name of a run.

    Args:
        run: Path or URL of the run's folder, ``STORE/runs/NAME``, or of the journal in it.

    Raises:
        ArgumentError: If it is neither.
    """
    store, separator, name = run.rstrip("/").removesuffix("/journal.jsonl").rpartition("/runs/")
    if not separator or not name or "/" in name:
        raise ArgumentError(f"a run must be given as STORE/runs/NAME, but got {run!r}")
    return Store.create(store), name


def recover(store: Store, run_id: str) -> RecoveredJournal:
    """Read a journal to resume its run.

    The first new record replaces an unfinished last line. Until then nothing is changed, as its
    writer may still be alive.

    Raises:
        StoreError: If there is no journal, or a line in it is missing or damaged.
    """
    key = journal_key(run_id)
    data = store.read(key)
    lines = data.split(b"\n")[:-1]
    records: list[Record] = []
    digest = ""
    for number, line in enumerate(lines, 1):
        text = line[:-_TAIL].decode(errors="replace") + "}"
        digest = _chain(digest, text)
        if line[-_TAIL:] != f',"digest":"{digest}"}}'.encode():
            raise StoreError(
                f"line {number} of {store.address(key)} is damaged, or lines before it were "
                "changed: restore the file from a copy, or start again with overwrite=True"
            )
        records.append(json.loads(text))
    size = sum(len(line) + 1 for line in lines)
    return RecoveredJournal(tuple(records), digest, size, data[size:])


def read(store: Store, run_id: str) -> tuple[Record, ...]:
    """Return the records of a run in order, without an unfinished last line.

    Raises:
        StoreError: If there is no journal, or a line in it is missing or damaged.
    """
    return recover(store, run_id).records


def get_trial_id(record: Record) -> str | None:
    """Return the id of a record's trial, if it has one."""
    trial_id = record["unit"]["trial_id"] if record["kind"] == "unit" else record.get("trial")
    return None if trial_id is None else str(trial_id)


def format_record(record: Record) -> str:
    """Return a record as one line for people."""
    head = f"{record['number']:6d}  {record['kind']:<9}"
    if record["kind"] == "unit":
        unit = record["unit"]
        return (
            f"{head} {unit['trial_id']} epoch {unit['epoch']} {unit['phase']} partition "
            f"{unit['partition']} visit {unit['visit']} attempt {unit['attempt']} on worker "
            f"{record['worker']}: {record['rows']} rows, {record['seconds']:.3f} s"
        )
    trial = [record["trial"]] if "trial" in record else []
    fields = [f"{key}={_shorten(value)}" for key, value in record.items() if key not in _NOT_SHOWN]
    return " ".join([head, *trial, *fields])


def to_json_types(value: Any) -> Any:
    """Return a value as a journal returns it: tuples as lists, NumPy's numbers as Python's."""
    return json.loads(json.dumps(value, default=_to_json))


def _to_json(value: Any) -> Any:
    """Return the fields of a frozen value, or the Python number of one of NumPy's."""
    if isinstance(value, msgspec.Struct):
        return msgspec.to_builtins(value)
    return vars(value) if dataclasses.is_dataclass(value) else value.item()


def _shorten(value: Any) -> str:
    if isinstance(value, dict) and "sha256" in value:
        return str(value["sha256"])[:12]
    text = repr(value)
    return text if len(text) <= 200 else f"{text[:200]}…"


def _chain(before: str, text: str) -> str:
    return hashlib.sha256(f"{before}\n{text}".encode()).hexdigest()[:_DIGEST]
