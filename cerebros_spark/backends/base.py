"""Protocol of backends."""

from __future__ import annotations

from typing import Protocol

from cerebros_spark.core.events import WorkerEvent
from cerebros_spark.core.types import Assignment
from cerebros_spark.runs.worker_config import WorkerConfig
from cerebros_spark.storage.store import Store


class Backend(Protocol):
    """Provider of workers, which starts, connects and stops those of one run at a time."""

    num_workers: int
    """Number of workers, and of data partitions."""

    threads: int
    """Number of TensorFlow threads in each worker."""

    reader: str | None
    """The library that reads shards, ``"petastorm"`` or ``"arrow"``; None for the default."""

    def check(self, store: Store) -> None:
        """Check in advance that enough workers can start and can read the store.

        Raises:
            BackendError: If there are too few free slots.
            StoreError: If a worker cannot read the store.
        """

    def start(self, config: WorkerConfig) -> None:
        """Start all workers; a WorkerReady event follows for each.

        Raises:
            BackendError: If the workers do not start within the start timeout.
            StoreError: If a worker cannot read the store.
        """

    def send(self, worker: int, assignment: Assignment) -> None:
        """Send an assignment to a worker."""

    def next_event(self, timeout: float) -> WorkerEvent | None:
        """Return the next event of any worker; None after ``timeout`` seconds.

        Raises:
            BackendError: If a worker is lost for good.
        """

    def stop(self) -> None:
        """Stop all workers and wait until they have ended."""
