"""Workers as threads of this process: no Spark needed, and the reference for equality."""

from __future__ import annotations

import logging
import queue
import threading
from collections.abc import Sequence

from cerebros_spark.backends.base import Backend, WorkerEvent
from cerebros_spark.core.errors import BackendError
from cerebros_spark.core.events import UnitDone, UnitFailed, WorkerAsks, WorkerReady
from cerebros_spark.core.types import UnitResult
from cerebros_spark.core.validation import check_integer
from cerebros_spark.runs.artifacts import check_store
from cerebros_spark.runs.worker_config import WorkerConfig
from cerebros_spark.storage.store import Store
from cerebros_spark.training.keras import tensorflow_runtime
from cerebros_spark.worker.io_thread import Assignment, Report
from cerebros_spark.worker.worker import Worker

logger = logging.getLogger("cerebros_spark")

_NOTHING = Assignment(())


class LocalBackend:
    """Trains in threads of this process.

    Args:
        num_workers: Number of workers, and of the partitions that the data is cut into.
        threads_per_worker: TensorFlow's threads for one operation. They are TensorFlow's for the
            whole process, and count only if it has not been used yet.
    """

    def __init__(self, num_workers: int = 2, *, threads_per_worker: int = 1) -> None:
        self.num_workers = check_integer("num_workers", num_workers, 1)
        self.threads = check_integer("threads_per_worker", threads_per_worker, 1)
        self._deterministic = False
        self._threads: list[threading.Thread] = []
        self._links: list[_Link] = []
        self._events: queue.Queue[WorkerEvent | BaseException] = queue.Queue()

    def check(self, store: Store) -> None:
        """Threads can always be had, and see what this process sees."""
        # Before the first network is built: TensorFlow can't change its threads later.
        tensorflow_runtime.configure(self.threads, None, False, self.num_workers, defer=True)

    def start(self, job: WorkerConfig) -> None:
        """Starts a thread for each worker."""
        check_store(job.store, job.run_id)
        tensorflow_runtime.configure(
            job.threads, None, job.deterministic, self.num_workers, defer=True
        )
        self._deterministic = job.deterministic
        self._events = queue.Queue()
        self._links = [_Link(number, self._events) for number in range(self.num_workers)]
        self._threads = [
            threading.Thread(
                target=self._serve, args=(job, link), name=f"cerebros-worker-{link.number}"
            )
            for link in self._links
        ]
        for thread in self._threads:
            thread.daemon = True
            thread.start()

    def send(self, worker: int, assignment: Assignment) -> None:
        """Gives a worker something to do."""
        self._links[worker].send(assignment)

    def next_event(self, timeout: float) -> WorkerEvent | None:
        """The next thing a worker has to say."""
        try:
            event = self._events.get(timeout=timeout)
        except queue.Empty:
            return None
        if isinstance(event, BaseException):
            raise BackendError(f"a worker stopped: {event}") from event
        return event

    def stop(self) -> None:
        """Lets the workers finish their unit and ends their threads."""
        for link in self._links:
            link.send(None)
        for thread in self._threads:
            thread.join()
        self._threads, self._links = [], []
        if self._deterministic:
            tensorflow_runtime.disable_determinism()

    def _serve(self, job: WorkerConfig, link: _Link) -> None:
        try:
            Worker(job, link.number).serve(link)
        except Exception as error:
            logger.exception("worker %d stopped", link.number)
            self._events.put(error)


class _Link:
    """A worker's line to the driver: two queues."""

    def __init__(self, number: int, events: queue.Queue[WorkerEvent | BaseException]) -> None:
        self.number = number
        self._assignments: queue.Queue[Assignment | None] = queue.Queue()
        self._events = events
        self._registered = False
        self._held = 0  # units given and not reported
        self._told = False  # the driver knows that this worker has use for work

    def send(self, assignment: Assignment | None) -> None:
        self._told = False
        self._assignments.put(assignment)

    def exchange(self, reports: Sequence[Report], asks: bool) -> Assignment | None:
        if not self._registered:
            self._registered = True
            self._events.put(WorkerReady(self.number))
        self._held -= len(reports)
        for report in reports:
            self._events.put(event_of(report))
        if asks and self._held and not self._told:
            self._told = True
            self._events.put(WorkerAsks(self.number))
        try:
            assignment = self._assignments.get(block=asks)
        except queue.Empty:
            return _NOTHING
        self._held += len(assignment.units) if assignment else 0
        return assignment

    def hurry(self) -> None:
        self._assignments.put(_NOTHING)


def event_of(report: Report) -> UnitDone | UnitFailed:
    """What a report means to the scheduler."""
    return UnitDone(report) if isinstance(report, UnitResult) else UnitFailed(report)


def _conforms(backend: LocalBackend) -> Backend:
    return backend
