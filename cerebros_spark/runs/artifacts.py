"""Keys of a run's specs, states and probe in its store; what is read is verified."""

from __future__ import annotations

import hashlib

import msgspec

from cerebros_spark.core.errors import StoreError
from cerebros_spark.core.types import StateRef, TrialSpec
from cerebros_spark.runs.worker_config import WorkerConfig
from cerebros_spark.storage.store import Store, read_checked, write_checked


def spec_key(run_id: str, trial_id: str) -> str:
    """Return the key of a trial's spec."""
    return f"runs/{run_id}/trials/{trial_id}/spec.json"


def state_key(config: WorkerConfig, trial_id: str, visit: int, attempt: int) -> str:
    """Return the key of a trial's state after a number of training visits."""
    name = f"{visit:06d}-{config.token}-{attempt}.safetensors"
    return f"runs/{config.run_id}/trials/{trial_id}/state/{name}"


def modified_state_key(config: WorkerConfig, before: StateRef) -> str:
    """Return the key of a state that the driver derives from another one."""
    return f"{before.key.removesuffix('.safetensors')}-{config.token}.safetensors"


def probe_key(run_id: str) -> str:
    """Return the key of the probe: the driver writes it, and workers check their store by it."""
    return f"runs/{run_id}/probe"


def check_store(store: Store, run_id: str) -> None:
    """Check that this process sees the driver's store.

    Raises:
        StoreError: If not; the message says what to do.
    """
    advice = (
        f"use a store that the driver and every worker share, at the same path; {store.url} is "
        "not shared"
    )
    try:
        token = store.read(probe_key(run_id)).decode()
    except StoreError as error:
        raise StoreError(f"a worker cannot read the store: {error}; {advice}") from error
    if token != run_id:
        raise StoreError(f"a worker reads another store than the driver; {advice}")


def make_state_ref(key: str, state: bytes) -> StateRef:
    """Return the reference of a state under a key."""
    return StateRef(key, len(state), hashlib.sha256(state).hexdigest())


def read_state(store: Store, ref: StateRef) -> bytes:
    """Return the bytes of a state.

    Raises:
        StoreError: If they can't be read or do not match the reference.
    """
    state = store.read(ref.key)
    if make_state_ref(ref.key, state) != ref:
        raise StoreError(
            f"{ref.key!r} in {store.url} is not what was written there ({len(state)} bytes, "
            f"{ref.size} expected): the file was altered or truncated"
        )
    return state


def write_spec(store: Store, run_id: str, spec: TrialSpec) -> None:
    """Write a trial's spec to its key."""
    write_checked(store, spec_key(run_id, spec.trial_id), msgspec.json.encode(spec))


def read_spec(store: Store, run_id: str, trial_id: str) -> TrialSpec:
    """Return a trial's spec; raises StoreError if it was altered."""
    data = read_checked(store, spec_key(run_id, trial_id))
    return msgspec.json.decode(data, type=TrialSpec)
