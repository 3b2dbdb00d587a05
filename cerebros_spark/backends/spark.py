"""Backend whose workers are long-lived tasks that Spark places, restarts and assigns GPUs to."""

from __future__ import annotations

import time
import uuid
from collections import deque
from collections.abc import Callable
from typing import Any

from cerebros_spark.backends.spark_errors import describe_job_error
from cerebros_spark.backends.spark_job import SparkJob, make_worker_check, make_worker_task
from cerebros_spark.backends.spark_settings import (
    check_slots,
    check_speculation,
    count_slots,
    find_context,
    get_start_timeout,
    use_driver_python,
)
from cerebros_spark.backends.spark_stack import check_stack, check_worker_version
from cerebros_spark.compat.pyspark import kill_task_attempt
from cerebros_spark.core.errors import ArgumentError, BackendError, StoreError
from cerebros_spark.core.events import WorkerEvent, WorkerLost, WorkerReady
from cerebros_spark.core.types import Assignment
from cerebros_spark.core.validation import check_integer
from cerebros_spark.data.readers import check_reader, choose_reader
from cerebros_spark.rpc.server import DriverServer
from cerebros_spark.runs.artifacts import probe_key
from cerebros_spark.runs.worker_config import WorkerConfig
from cerebros_spark.storage.store import Store

_WATCH_SECONDS = 1.0
_GRACE_SECONDS = 10.0
_HEARTBEAT_SECONDS = 5.0
_RESUME = "Finished work is kept: fix the cause and run the search again with overwrite=False"


class SparkBackend:
    """Backend that trains in tasks of a Spark application.

    Each worker is the single task of a Spark job, which runs for the whole search and occupies a
    task slot. Workers pull their work from the driver. Each uses ``spark.task.cpus`` threads and
    the GPU, if any, that Spark assigns to it. If a task dies, Spark restarts it; once Spark gives
    up, a new job replaces the old one. The other workers are unaffected.

    Args:
        spark_context: A SparkContext or SparkSession. Defaults to the active SparkContext.
        num_workers: Number of workers, and of data partitions. Defaults to the number of task
            slots in the cluster.
        start_timeout: Seconds to wait for all workers to start, or for a lost worker to return.
            Defaults to 120, or 600 if executors unpack archives (``spark.archives``).
        lease: Seconds without progress after which a worker is considered dead and its task is
            restarted. Progress is a training step or, before the first step, a second of CPU time.
        port: Driver port that workers connect to, for networks that restrict ports; 0 chooses a
            free port.
        reader: Library that reads the shards: ``"petastorm"`` or ``"arrow"`` (pyarrow alone), with
            the same results. Defaults to the driver's environment variable
            ``CEREBROS_SPARK_READER`` or, if that is not set, to Petastorm if it can be imported,
            else pyarrow.

    Raises:
        ArgumentError: If there is no SparkContext (a Spark Connect session has none), or an
            argument is invalid.
    """

    def __init__(
        self,
        spark_context: Any = None,
        num_workers: int | None = None,
        *,
        start_timeout: float | None = None,
        lease: float = 300.0,
        port: int = 0,
        reader: str | None = None,
    ) -> None:
        self.reader = check_reader(reader)
        self._context = find_context(spark_context)
        use_driver_python(self._context)
        self.threads = int(self._context.getConf().get("spark.task.cpus", "1"))
        if num_workers is None:
            num_workers = count_slots(self._context)
        self.num_workers = check_integer("num_workers", num_workers, 1)
        if start_timeout is None:
            start_timeout = get_start_timeout(self._context)
        for name, value in (("start_timeout", start_timeout), ("lease", lease)):
            if not value > 0:
                raise ArgumentError(f"{name} must be a positive number, but got {value!r}")
        self._start_timeout = start_timeout
        self._lease = lease
        self._port = check_integer("port", port, 0, 65535)
        self._server: DriverServer | None = None
        self._launch: Callable[[int], SparkJob]
        self._jobs: list[SparkJob] = []
        self._is_started = False
        self._loss_reasons: dict[int, str] = {}  # last reason by worker
        self._ready: deque[WorkerEvent] = deque()
        self._watch_at = 0.0  # monotonic time of the next check of the workers

    def check(self, store: Store) -> None:
        """Check the reader, versions and task slots, and that executors can read the store."""
        choose_reader(self.reader)
        check_speculation(self._context)
        check_stack(self._context)
        check_slots(self._context, self.num_workers)
        token = f"check-{uuid.uuid4().hex}"
        store.write(probe_key(token), token.encode())
        found: list[tuple[str, str]] = []
        numbers = self._context.parallelize(range(self.num_workers), self.num_workers)
        tasks = numbers.map(make_worker_check(store, token))
        job = SparkJob(self._context, "cerebros_spark check", lambda: found.extend(tasks.collect()))
        try:
            job.wait(self._start_timeout)
            if job.is_running:
                raise BackendError(self._describe_missing_slots(0))
            if job.error is not None:
                raise BackendError(describe_job_error(job.error)) from job.error
        finally:
            job.cancel()
            store.delete(f"runs/{token}")
        for version, error in found:
            check_worker_version(version)
            if error:
                raise StoreError(error)

    def start(self, config: WorkerConfig) -> None:
        """Start the Spark jobs and wait until every worker has registered."""
        check_slots(self._context, self.num_workers)
        conf = self._context.getConf()
        host = conf.get("spark.driver.host")
        bind = conf.get("spark.driver.bindAddress", host)
        self._is_started = False
        self._loss_reasons = {}
        self._ready.clear()
        self._server = DriverServer(
            self.num_workers, bind, public_host=host, port=self._port, lease=self._lease
        )
        try:
            # Several heartbeats per lease, so that a late one does not cost a worker.
            heartbeat = min(_HEARTBEAT_SECONDS, self._lease / 4)
            task = make_worker_task(config, self._server.access, heartbeat)

            def launch(number: int) -> SparkJob:
                partition = self._context.parallelize([number], 1)
                title = f"cerebros_spark worker {number}"
                return SparkJob(self._context, title, lambda: partition.foreach(task))

            self._launch = launch
            for number in range(self.num_workers):
                self._jobs.append(launch(number))
            self._wait_for_workers()
        except BaseException:
            self.stop()
            raise

    def send(self, worker: int, assignment: Assignment) -> None:
        """Send an assignment to a worker."""
        self._get_server().send(worker, assignment)

    def next_event(self, timeout: float) -> WorkerEvent | None:
        """Return the next event of any worker; None if none occurs within ``timeout`` seconds."""
        if self._ready:
            return self._ready.popleft()
        server = self._get_server()
        deadline = time.monotonic() + timeout
        while True:
            now = time.monotonic()
            # At intervals, so as not to delay every reply to a report. Events come first, because
            # they say more about a loss than the state of a Spark job does.
            if now >= self._watch_at and not server.has_events:
                self._watch(server)
                self._watch_at = time.monotonic() + _WATCH_SECONDS
            event = server.next_event(min(max(self._watch_at, now), deadline) - now)
            if isinstance(event, WorkerLost):
                self._handle_loss(server, event)
            if event is not None or time.monotonic() >= deadline:
                return event

    def stop(self) -> None:
        """Stop the workers and end the Spark jobs."""
        if self._server is None:
            return
        self._server.end()
        # A task that is training ends after its unit, or is canceled after a grace period.
        deadline = time.monotonic() + _GRACE_SECONDS
        for job in self._jobs:
            job.wait(max(0.0, deadline - time.monotonic()))
        for job in self._jobs:
            job.cancel()
        self._server.close()
        self._server, self._jobs = None, []

    def _wait_for_workers(self) -> None:
        deadline = time.monotonic() + self._start_timeout
        registered: set[int] = set()
        while len(registered) < self.num_workers:
            event = self.next_event(0.2)
            if isinstance(event, WorkerReady):
                registered.add(event.worker)
            elif isinstance(event, WorkerLost):
                if event.fatal:
                    raise BackendError(f"worker {event.worker} cannot start: {event.reason}")
                registered.discard(event.worker)
            if time.monotonic() > deadline:
                raise BackendError(self._describe_missing_slots(len(registered)))
        self._is_started = True
        self._ready.extend(WorkerReady(worker) for worker in range(self.num_workers))

    # Lost workers ------------------------------------------------------------------------

    def _handle_loss(self, server: DriverServer, event: WorkerLost) -> None:
        """Kill a lost worker's task so that Spark restarts it, unless the task ends by itself."""
        self._loss_reasons[event.worker] = event.reason
        attempt = server.sessions[event.worker].lost_process_info().get("attempt")
        if not event.fatal and attempt is not None:
            kill_task_attempt(self._context, int(attempt), event.reason)

    def _watch(self, server: DriverServer) -> None:
        """Check all workers: declare hanging ones dead, and replace Spark jobs that have ended."""
        server.expire()
        for worker, job in enumerate(self._jobs):
            if job.is_running:
                continue
            reason = self._loss_reasons[worker] = describe_job_error(job.error)
            if not self._is_started:
                raise BackendError(reason) from job.error
            server.sessions[worker].give_up(reason)
            self._jobs[worker] = self._launch_again(worker)
        missing = server.missing_workers(self._start_timeout) if self._is_started else []
        for worker in missing:
            reason = self._loss_reasons.get(worker, "")
            raise BackendError(
                f"worker {worker} has been missing for {self._start_timeout:g} s, and no other "
                f"worker holds its partition{f'; its last error: {reason}' if reason else ''}. "
                f"{_RESUME}"
            )

    def _launch_again(self, worker: int) -> SparkJob:
        try:
            return self._launch(worker)
        except Exception as error:
            raise BackendError(
                f"cannot restart worker {worker}: Spark has stopped: {error}. {_RESUME}"
            ) from error

    def _describe_missing_slots(self, started: int) -> str:
        return (
            f"only {started} of num_workers={self.num_workers} workers started within "
            f"{self._start_timeout:g} s: the cluster has too few free task slots. Lower "
            "num_workers, add executors or cores, or end other jobs of this application"
        )

    def _get_server(self) -> DriverServer:
        if self._server is None:
            raise BackendError("cannot reach the workers: the backend is not started")
        return self._server
