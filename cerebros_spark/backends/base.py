"""Protocol that all backends implement."""

from __future__ import annotations

from typing import Protocol

from cerebros_spark.core.events import WorkerEvent
from cerebros_spark.core.types import Assignment
from cerebros_spark.runs.worker_config import WorkerConfig
from cerebros_spark.storage.store import Store


class Backend(Protocol):
    """Provider of workers; it starts, connects and stops the workers of one run at a time."""

    num_workers: int
    """Number of workers, and of data partitions."""

    threads: int
    """Number of TensorFlow threads in each worker."""

    reader: str | None
    """Library that reads the shards, ``"petastorm"`` or ``"arrow"``; None selects the default."""

    def check(self, store: Store) -> None:
        """Check in advance that enough workers can start and can read the store.

        Raises:
            BackendError: If there are too few free task slots.
            StoreError: If a worker cannot read the store.
        """

    def start(self, config: WorkerConfig) -> None:
        """Start all workers; :meth:`next_event` later returns a WorkerReady for each.

        Raises:
            BackendError: If the workers do not start within the start timeout.
            StoreError: If a worker cannot read the store.
        """

    def send(self, worker: int, assignment: Assignment) -> None:
        """Send an assignment to the worker with index ``worker``."""

    def next_event(self, timeout: float) -> WorkerEvent | None:
        """Return the next event of any worker; None if none occurs within ``timeout`` seconds.

        Raises:
            BackendError: If a worker is permanently lost.
        """

    def stop(self) -> None:
        """Stop all workers and wait until they have ended."""
