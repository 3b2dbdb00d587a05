"""A small journal, in order."""

from __future__ import annotations

from cerebros_spark.runs.journal import Journal
from cerebros_spark.storage.store import Store

PARTITIONS = 2
Event = tuple[str, dict]


def ref(digest: str) -> dict:
    return {"key": f"state/{digest}", "size": 1, "sha256": digest}


def unit_event(
    trial: str, epoch: int, phase: str, partition: int, visit: int, state: str, after: str
) -> Event:
    unit = {"trial_id": trial, "epoch": epoch, "phase": phase, "partition": partition}
    unit |= {"visit": visit, "attempt": 0, "state": ref(state)}
    more = {"worker": partition, "state": ref(after) if after else None, "rows": 5, "seconds": 0.1}
    return ("unit", {"unit": unit, **more})


def complete_run() -> list[Event]:
    """One trial of two epochs, in order."""
    events: list[Event] = [
        ("run", {"run": "r", "partitions": PARTITIONS}),
        ("session", {"session": 0}),
        ("proposal", {"trial": "t", "values": {}}),
        ("trial", {"trial": "t", "index": 0, "epochs": 2, "state": ref("s0")}),
    ]
    visit = 0
    for epoch in range(2):
        for partition in range(PARTITIONS):
            states = f"s{visit}", f"s{visit + 1}"
            events.append(unit_event("t", epoch, "train", partition, visit, *states))
            visit += 1
        for partition in range(PARTITIONS):
            events.append(unit_event("t", epoch, "validate", partition, visit, f"s{visit}", ""))
        events.append(("epoch", {"trial": "t", "epoch": epoch, "logs": {"loss": 1.0}}))
        kept = ref("s2")  # of the first epoch
        events.append(("answer", {"trial": "t", "proceed": True, "keep": not epoch, "kept": kept}))
    return [*events, ("end", {"trial": "t", "status": "completed", "kept": kept}), ("done", {})]


def records(events: list[Event]) -> list[dict]:
    return [{"number": n, "kind": kind, **fields} for n, (kind, fields) in enumerate(events)]


def write_run(store: Store, events: list[Event], name: str = "mine") -> str:
    """The run's address, as the commands take it."""
    journal = Journal(store, name)
    for kind, fields in events:
        journal.append(kind, **fields)
    journal.commit()
    return journal.address
