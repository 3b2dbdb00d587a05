"""The backend room's door: where workers come from and how they are spoken to."""

from __future__ import annotations

from typing import Protocol

from cerebros_spark.core.events import UnitDone, UnitFailed, WorkerAsks, WorkerLost, WorkerReady
from cerebros_spark.runs.worker_config import WorkerConfig
from cerebros_spark.storage.store import Store
from cerebros_spark.worker.io_thread import Assignment

WorkerEvent = WorkerReady | WorkerAsks | WorkerLost | UnitDone | UnitFailed


class Backend(Protocol):
    """Owns the workers of one run at a time."""

    num_workers: int
    """Number of workers, and so of partitions."""

    threads: int
    """TensorFlow's threads in each worker."""

    def check(self, store: Store) -> None:
        """Makes sure, before any work is spent, that workers can be had and see the store.

        Raises:
            BackendError: If there can't be so many workers.
            StoreError: If a worker can't see the store.
        """

    def start(self, job: WorkerConfig) -> None:
        """Starts all workers; each one's WorkerReady follows as an event.

        Raises:
            BackendError: If they can't be had within the start timeout.
            StoreError: If a worker can't see the store.
        """

    def send(self, worker: int, assignment: Assignment) -> None:
        """Gives an idle worker something to do."""

    def next_event(self, timeout: float) -> WorkerEvent | None:
        """The next thing a worker has to say; None after ``timeout`` seconds of silence.

        Raises:
            BackendError: If the workers are gone for good.
        """

    def stop(self) -> None:
        """Lets all workers go; nothing of them is left when this returns."""
