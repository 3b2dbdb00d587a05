"""Configuration that every worker of a run receives."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from cerebros_spark.data.manifest import Layout, Manifest
from cerebros_spark.storage.store import Store


@dataclass(frozen=True)
class WorkerConfig:
    """Configuration that every worker of a run receives.

    Attributes:
        run_id: Name of the run.
        store: Store of the data shards, trial specs and model states.
        manifest: Description of the prepared data.
        layout: Columns that form the models' inputs and outputs.
        shard_memory: Bytes of memory for decoded rows: half for the training shard, half for the
            validation shard. A larger shard is streamed.
        program_memory: Approximate maximum size of all resident programs, in bytes; beyond it, the
            least recently used program is evicted.
        threads: Number of TensorFlow threads in each worker.
        deterministic: Whether the same units of work must give bit-for-bit identical results.
        session: Index of the driver's session on this run.
        token: Random token of the driver, part of every model state's key. It prevents conflicts
            with late writes by workers of an earlier driver or of an overwritten run.
        custom_objects: Custom layers, losses and metrics by name.
        reader: Name of the library that reads shards, if the driver chose one; if None, each
            worker chooses.
    """

    run_id: str
    store: Store
    manifest: Manifest
    layout: Layout
    shard_memory: int
    program_memory: int
    threads: int
    deterministic: bool
    session: int = 0
    token: str = field(default_factory=lambda: secrets.token_hex(4))
    custom_objects: Mapping[str, Any] = field(default_factory=dict)
    reader: str | None = None
