"""Journal of a run: one line of JSON per event.

The lines of a commit are written together, and are durable before anything acts on them. Each line
has a digest of itself and of all preceding lines, so changed, lost or moved lines are detected.
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
    """Writer of the journal of one run.

    Kinds of records:

    * ``run``: the search configuration; the first record.
    * ``session``: a driver has started or resumed the run.
    * ``proposal``: the tuner has proposed hyperparameter values for a trial.
    * ``trial``: a trial has been built; its hyperparameters and initial state.
    * ``unit``: a unit of work is finished; its :class:`~cerebros_spark.core.types.UnitResult`.
    * ``epoch``: an epoch of a trial is finished; its metrics over all rows.
    * ``answer``: whether the trial continues, and whether the epoch's state is kept.
    * ``end``: how the trial ended.
    * ``lost``: a worker has died; only for information.
    * ``exploration``: the time for proposing new configurations has ended.
    * ``extension``: the run continues with other limits, even if it was finished.
    * ``ensemble``: the configurations whose networks predict together, and their weights.
    * ``done``: the search is finished.

    Args:
        store: Store of the run.
        run_id: Name of the run.
        after: The existing journal, as returned by :func:`recover`. If None, a new one is begun.
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
        """Path or URL of the run, in the form that the command-line tools accept."""
        return self._store.address(f"runs/{self._run_id}").removeprefix("file://")

    def append(self, kind: str, **fields: Any) -> None:
        """Add a record to the next commit."""
        record = {"number": self._number, "kind": kind, **fields}
        text = json.dumps(record, separators=(",", ":"), default=_to_json)
        self._digest = _chain(self._digest, text)
        self._lines.append(f'{text[:-1]},"digest":"{self._digest}"}}\n'.encode())
        self._number += 1

    def commit(self) -> None:
        """Write the added records; they are durable when the call returns.

        Raises:
            StoreError: If they cannot be written, or another process writes to the same run.
        """
        if not self._lines:
            return
        data = b"".join(self._lines)
        self._store.append(journal_key(self._run_id), data, at=self._size, instead_of=self._torn)
        self._torn = b""
        self._size += len(data)
        self._lines.clear()

    def discard(self) -> None:
        """Delete the run, unless another process has written to its journal."""
        key = journal_key(self._run_id)
        if self._store.digest(key)[0] == self._size:
            self._store.delete(f"runs/{self._run_id}")


@dataclass(frozen=True)
class RecoveredJournal:
    """Content of an existing journal.

    Attributes:
        records: The records, in order.
        digest: Digest of the last record.
        size: Size of all records, in bytes.
        torn: Bytes of an unfinished last line that a crash left; empty if there is none.
    """

    records: tuple[Record, ...]
    digest: str
    size: int
    torn: bytes = b""

    @property
    def is_done(self) -> bool:
        """Whether the run is finished."""
        return bool(self.records[-1]["kind"] == "done")


def journal_key(run_id: str) -> str:
    """Return the key of a run's journal."""
    return f"runs/{run_id}/journal.jsonl"


def locate_run(run: str) -> tuple[Store, str]:
    """Return the store and the name of a run.

    Args:
        run: Path or URL of the run's folder, ``STORE/runs/NAME``, or of its journal.

    Raises:
        ArgumentError: If ``run`` has any other form.
    """
    store, separator, name = run.rstrip("/").removesuffix("/journal.jsonl").rpartition("/runs/")
    if not separator or not name or "/" in name:
        raise ArgumentError(f"a run must be given as STORE/runs/NAME, but got {run!r}")
    return Store.create(store), name


def recover(store: Store, run_id: str) -> RecoveredJournal:
    """Read a journal in order to resume its run.

    An unfinished last line is kept until the first commit replaces it, because the process that
    wrote it may still be running.

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
    """Read the records of a run in order, except for an unfinished last line.

    Raises:
        StoreError: If there is no journal, or a line in it is missing or damaged.
    """
    return recover(store, run_id).records


def get_trial_id(record: Record) -> str | None:
    """Return the name of the trial that a record concerns; None if it concerns no trial."""
    trial_id = record["unit"]["trial_id"] if record["kind"] == "unit" else record.get("trial")
    return None if trial_id is None else str(trial_id)


def format_record(record: Record) -> str:
    """Format a record as one line of readable text."""
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
    """Convert a value to JSON types: tuples to lists, NumPy numbers to Python numbers."""
    return json.loads(json.dumps(value, default=_to_json))


def _to_json(value: Any) -> Any:
    """Convert a struct or dataclass to a dict of its fields, or a NumPy number to a Python one."""
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
