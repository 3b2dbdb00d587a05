"""The configuration that every worker of a run receives."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from cerebros_spark.data.manifest import Layout, Manifest
from cerebros_spark.storage.store import Store


@dataclass(frozen=True)
class WorkerConfig:
    """The configuration that every worker of a run receives.

    Attributes:
        run_id: The run.
        store: Store of shards, specs and states.
        manifest: The prepared data.
        layout: Columns of the models' inputs and outputs.
        shard_memory: Bytes of decoded rows kept in memory; a larger shard is streamed.
        program_memory: Approximate bytes of resident programs; the least recently used one is
            evicted.
        threads: TensorFlow's threads in each worker.
        deterministic: Whether the same units must give the same bits.
        session: Number of the driver's session on this run, from 0.
        token: Random token of the driver, part of every state's key. So late writes of workers
            of an earlier driver, or of an overwritten run, do no harm.
        custom_objects: Custom layers, losses and metrics by name.
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
