"""What every worker of a run is told when it starts."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from cerebros_spark.data.manifest import Layout, Manifest
from cerebros_spark.storage.store import Store


@dataclass(frozen=True)
class WorkerConfig:
    """What every worker of a run is told when it starts.

    Attributes:
        run_id: The run.
        store: Where shards, specs and states lie.
        manifest: The prepared data.
        layout: Which columns make up the models' inputs and outputs.
        shard_memory: Bytes of decoded rows that may be kept; a larger shard is streamed.
        program_memory: Bytes that resident programs may take, about; the one not used for
            longest goes first.
        threads: TensorFlow's threads in each worker.
        deterministic: Whether the same units must give the same bits.
        session: Number of the driver's session on this run, from 0.
        token: Drawn by each driver. A worker of an earlier driver, or of a run that was
            overwritten, may still write, so the keys of states hold it.
        custom_objects: Layers, losses and metrics that are not Keras' own, by name.
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
