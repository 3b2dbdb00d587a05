"""Specs and states of a run's trials, and its probe: where they lie in the store, read checked."""

from __future__ import annotations

import hashlib

from cerebros_spark.core.errors import StoreError
from cerebros_spark.core.types import StateRef, TrialSpec, to_wire, trial_spec
from cerebros_spark.runs.worker_config import WorkerConfig
from cerebros_spark.storage.store import Store, read_checked, write_checked


def spec_key(run_id: str, trial_id: str) -> str:
    """Where a trial's spec lies in the store."""
    return f"runs/{run_id}/trials/{trial_id}/spec.json"


def state_key(job: WorkerConfig, trial_id: str, visit: int, attempt: int) -> str:
    """Where a trial's state after so many visits lies in the store."""
    name = f"{visit:06d}-{job.token}-{attempt}.safetensors"
    return f"runs/{job.run_id}/trials/{trial_id}/state/{name}"


def changed_key(job: WorkerConfig, before: StateRef) -> str:
    """Where a state lies that the driver has made of another one."""
    return f"{before.key.removesuffix('.safetensors')}-{job.token}.safetensors"


def probe_key(run_id: str) -> str:
    """Where the driver leaves the run's name, for workers to see that the store is the same."""
    return f"runs/{run_id}/probe"


def check_store(store: Store, run_id: str) -> None:
    """Makes sure that this process sees the driver's store.

    Raises:
        StoreError: If not; the message says what to do.
    """
    advice = (
        f"give a store that the driver and every worker share, at the same path; {store.url} "
        "is not that here"
    )
    try:
        token = store.read(probe_key(run_id)).decode()
    except StoreError as error:
        raise StoreError(f"a worker can't see the store: {error}; {advice}") from error
    if token != run_id:
        raise StoreError(f"a worker sees another store than the driver; {advice}")


def read_state(store: Store, ref: StateRef) -> bytes:
    """The bytes of a state, checked against its reference.

    Raises:
        StoreError: If they can't be read or are not what was written.
    """
    data = store.read(ref.key)
    if len(data) != ref.size or hashlib.sha256(data).hexdigest() != ref.sha256:
        raise StoreError(
            f"{ref.key!r} in {store.url} is not what was written there ({len(data)} bytes, "
            f"{ref.size} expected): the file was changed or cut short"
        )
    return data


def reference(key: str, state: bytes) -> StateRef:
    """The reference of a state that lies, or is to lie, under a key."""
    return StateRef(key, len(state), hashlib.sha256(state).hexdigest())


def write_spec(store: Store, run_id: str, spec: TrialSpec) -> None:
    """Puts a trial's spec where workers look for it."""
    write_checked(store, spec_key(run_id, spec.trial_id), to_wire(spec).encode())


def read_spec(store: Store, run_id: str, trial_id: str) -> TrialSpec:
    """A trial's spec; raises StoreError if it is not what was written."""
    return trial_spec(read_checked(store, spec_key(run_id, trial_id)))
