"""Backend that runs workers as threads of this process.

It does not need Spark. Other backends must give the same results.
"""

from __future__ import annotations

import logging
import queue
import threading
from collections.abc import Sequence

from cerebros_spark.core.errors import BackendError
from cerebros_spark.core.events import WorkerEvent, WorkerReady, WorkRequested
from cerebros_spark.core.types import Assignment, Demand, Report
from cerebros_spark.core.validation import check_integer
from cerebros_spark.data.readers import check_reader, choose_reader
from cerebros_spark.runs.artifacts import check_store
from cerebros_spark.runs.worker_config import WorkerConfig
from cerebros_spark.storage.store import Store
from cerebros_spark.training.keras import tensorflow_runtime
from cerebros_spark.worker.worker import Worker

logger = logging.getLogger(__name__)

_NO_WORK = Assignment(())


class LocalBackend:
    """Backend that trains in threads of this process.

    Args:
        num_workers: Number of workers, and of data partitions.
        threads_per_worker: Number of TensorFlow threads per operation. It applies to the whole
            process, and only if TensorFlow has not been used yet.
        reader: Library that reads the shards: ``"petastorm"`` or ``"arrow"`` (pyarrow alone), with
            the same results. Defaults to the driver's environment variable
            ``CEREBROS_SPARK_READER`` or, if that is not set, to Petastorm if it can be imported,
            else pyarrow.
    """

    def __init__(
        self, num_workers: int = 2, *, threads_per_worker: int = 1, reader: str | None = None
    ) -> None:
        self.num_workers = check_integer("num_workers", num_workers, 1)
        self.threads = check_integer("threads_per_worker", threads_per_worker, 1)
        self.reader = check_reader(reader)
        self._deterministic = False
        self._threads: list[threading.Thread] = []
        self._links: list[_LocalLink] = []
        self._events: queue.Queue[WorkerEvent | BaseException] = queue.Queue()

    def check(self, store: Store) -> None:
        """Check the reader and configure TensorFlow's threads, which are fixed once it is used."""
        choose_reader(self.reader)
        tensorflow_runtime.configure(self.threads, None, False, self.num_workers, defer=True)

    def start(self, config: WorkerConfig) -> None:
        """Start a thread for each worker."""
        check_store(config.store, config.run_id)
        tensorflow_runtime.configure(
            config.threads, None, config.deterministic, self.num_workers, defer=True
        )
        self._deterministic = config.deterministic
        self._events = queue.Queue()
        self._links = [_LocalLink(number, self._events) for number in range(self.num_workers)]
        self._threads = [
            threading.Thread(
                target=self._serve,
                args=(config, link),
                name=f"cerebros-worker-{link.number}",
                daemon=True,
            )
            for link in self._links
        ]
        for thread in self._threads:
            thread.start()

    def send(self, worker: int, assignment: Assignment) -> None:
        """Send an assignment to a worker."""
        self._links[worker].send(assignment)

    def next_event(self, timeout: float) -> WorkerEvent | None:
        """Return the next event of any worker; None if none occurs within ``timeout`` seconds."""
        try:
            event = self._events.get(timeout=timeout)
        except queue.Empty:
            return None
        if isinstance(event, BaseException):
            raise BackendError(f"a worker stopped: {event}") from event
        return event

    def stop(self) -> None:
        """Stop the workers after their current units of work, and wait for their threads to end."""
        for link in self._links:
            link.send(None)
        for thread in self._threads:
            thread.join()
        self._threads, self._links = [], []
        if self._deterministic:
            tensorflow_runtime.disable_determinism()

    def _serve(self, config: WorkerConfig, link: _LocalLink) -> None:
        try:
            Worker(config, link.number).serve(link)
        except Exception as error:
            logger.exception("worker %d stopped", link.number)
            self._events.put(error)


class _LocalLink:
    """Connection of a worker to the driver through two queues."""

    def __init__(self, number: int, events: queue.Queue[WorkerEvent | BaseException]) -> None:
        self.number = number
        self._assignments: queue.Queue[Assignment | None] = queue.Queue()
        self._events = events
        self._is_registered = False
        self._has_requested = False  # for work ahead, since the last assignment

    def send(self, assignment: Assignment | None) -> None:
        self._has_requested = False
        self._assignments.put(assignment)

    def exchange(self, reports: Sequence[Report], demand: Demand) -> Assignment | None:
        if not self._is_registered:
            self._is_registered = True
            self._events.put(WorkerReady(self.number))
        for report in reports:
            self._events.put(report)
        if demand is Demand.AHEAD and not self._has_requested:
            self._has_requested = True
            self._events.put(WorkRequested(self.number))
        try:
            return self._assignments.get(block=demand is not Demand.NONE)
        except queue.Empty:
            return _NO_WORK

    def wake(self) -> None:
        self._assignments.put(_NO_WORK)
