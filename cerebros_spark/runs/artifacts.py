"""Store keys and verified reads of a run's trial specs, model states and probe file."""

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
    """Return the key of a trial's model state after ``visit`` training visits."""
    name = f"{visit:06d}-{config.token}-{attempt}.safetensors"
    return f"runs/{config.run_id}/trials/{trial_id}/state/{name}"


def modified_state_key(config: WorkerConfig, before: StateRef) -> str:
    """Return the key of a model state that the driver derives from the state ``before``."""
    return f"{before.key.removesuffix('.safetensors')}-{config.token}.safetensors"


def probe_key(run_id: str) -> str:
    """Return the key of the probe file, which workers read to check that they see the store."""
    return f"runs/{run_id}/probe"


def check_store(store: Store, run_id: str) -> None:
    """Raise StoreError, with advice, unless this process sees the same store as the driver."""
    advice = (
        f"use a store that the driver and every worker share, at the same path; {store.url} is "
        "not shared"
    )
    try:
        token = store.read(probe_key(run_id)).decode()
    except StoreError as error:
        raise StoreError(f"a worker cannot read the store: {error}; {advice}") from error
    if token != run_id:
        raise StoreError(f"a worker reads a different store than the driver; {advice}")


def make_state_ref(key: str, checkpoint: bytes) -> StateRef:
    """Return a reference to the model state ``checkpoint``, stored under ``key``."""
    return StateRef(key, len(checkpoint), hashlib.sha256(checkpoint).hexdigest())


def read_state(store: Store, ref: StateRef) -> bytes:
    """Read a serialized model state.

    Raises:
        StoreError: If the state cannot be read or does not match the reference.
    """
    checkpoint = store.read(ref.key)
    if make_state_ref(ref.key, checkpoint) != ref:
        raise StoreError(
            f"{ref.key!r} in {store.url} is not what was written there ({len(checkpoint)} bytes, "
            f"{ref.size} expected): the file was altered or truncated"
        )
    return checkpoint


def write_spec(store: Store, run_id: str, spec: TrialSpec) -> None:
    """Write a trial's spec to the store."""
    write_checked(store, spec_key(run_id, spec.trial_id), msgspec.json.encode(spec))


def read_spec(store: Store, run_id: str, trial_id: str) -> TrialSpec:
    """Read a trial's spec; raise StoreError if it cannot be read or was altered."""
    data = read_checked(store, spec_key(run_id, trial_id))
    return msgspec.json.decode(data, type=TrialSpec)
