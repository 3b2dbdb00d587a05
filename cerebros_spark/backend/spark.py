"""Workers as long-lived Spark tasks: Spark places them, restarts them and gives them a GPU."""

from __future__ import annotations

import logging
import queue
import secrets
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from typing import Any

from cerebros_spark.backend.base import Backend, WorkerEvent
from cerebros_spark.backend.rpc import DriverServer, WorkerLink
from cerebros_spark.errors import ArgumentError, BackendError, StoreError
from cerebros_spark.hopper import WorkerReady
from cerebros_spark.store import Store
from cerebros_spark.worker import Assignment, Worker, WorkerJob, check_store, probe_key

logger = logging.getLogger("cerebros_spark")


class SparkBackend:
    """Trains in tasks of a Spark application.

    One ordinary Spark job of ``num_workers`` tasks runs while a search does and holds their
    slots; the tasks pull their work from the driver. Each uses ``spark.task.cpus`` threads and
    the GPU that Spark assigned to it, if it did.

    Args:
        spark_context: The SparkContext. The active one if it is None.
        num_workers: Number of workers, and of the partitions that the data is cut into. As many
            as the cluster has task slots if it is None.
        start_timeout: Seconds within which all workers must have come.

    Raises:
        ArgumentError: If there is no SparkContext or ``num_workers`` is below 1.
    """

    def __init__(
        self,
        spark_context: Any = None,
        num_workers: int | None = None,
        *,
        start_timeout: float = 120.0,
    ) -> None:
        self._context = spark_context or _active_context()
        self.threads = int(self._context.getConf().get("spark.task.cpus", "1"))
        self.num_workers = _slots(self._context) if num_workers is None else num_workers
        if self.num_workers < 1:
            raise ArgumentError(f"num_workers must be at least 1, but got {num_workers!r}")
        self._start_timeout = start_timeout
        self._server: DriverServer | None = None
        self._thread: Any = None
        self._group = ""
        self._error: BaseException | None = None
        self._ready: list[WorkerEvent] = []

    def check(self, store: Store) -> None:
        """Looks at the task slots, and at the store from short tasks on the executors."""
        self._check_slots()
        token = f"check-{uuid.uuid4().hex}"
        store.write(probe_key(token), token.encode())
        try:
            told = self._context.parallelize(range(self.num_workers), self.num_workers).map(
                _look(store, token)
            )
            missing = [message for message in told.collect() if message]
        except Exception as error:
            raise BackendError(_explain(error)) from error
        finally:
            store.delete(f"runs/{token}")
        if missing:
            raise StoreError(missing[0])

    def start(self, job: WorkerJob) -> None:
        """Starts the Spark job and waits until every worker has registered."""
        self._check_slots()
        host = self._context.getConf().get("spark.driver.host")
        bind = self._context.getConf().get("spark.driver.bindAddress", host)
        secret = secrets.token_hex(32)
        self._error, self._ready = None, []
        self._server = DriverServer(self.num_workers, bind, secret)
        self._group = f"cerebros-{uuid.uuid4().hex[:8]}"
        self._run_in_thread(_task(job, f"{host}:{self._server.port}", secret))
        try:
            self._wait_for_all()
        except BaseException:
            self.stop()
            raise

    def send(self, worker: int, assignment: Assignment) -> None:
        """Gives an idle worker something to do."""
        self._served().send(worker, assignment)

    def next_event(self, timeout: float) -> WorkerEvent | None:
        """The next thing a worker has to say."""
        if self._ready:
            return self._ready.pop(0)
        deadline = time.monotonic() + timeout
        while True:
            try:
                event = self._served().events.get(timeout=min(1.0, max(0.0, timeout)))
            except queue.Empty:
                if self._error is not None:
                    raise BackendError(_explain(self._error)) from self._error
                if time.monotonic() >= deadline:
                    return None
                continue
            if isinstance(event, BackendError):
                raise event
            return event

    def stop(self) -> None:
        """Ends the Spark job."""
        if self._server is None:
            return
        self._server.stop()
        self._thread.join(timeout=10.0)
        if self._thread.is_alive():
            # A task that trains does not ask before its unit is done.
            self._context.cancelJobGroup(self._group)
            self._thread.join(timeout=30.0)
        self._server.close()
        self._server = None

    # The Spark job -----------------------------------------------------------------------

    def _run_in_thread(self, task: Callable[[int, Iterator[Any]], Iterator[Any]]) -> None:
        from pyspark import InheritableThread

        context, group, workers = self._context, self._group, self.num_workers

        def run() -> None:
            context.setJobGroup(group, "cerebros_spark workers", interruptOnCancel=True)
            try:
                context.parallelize(range(workers), workers).mapPartitionsWithIndex(task).count()
            except BaseException as error:
                self._error = error

        self._thread = InheritableThread(target=run, name="cerebros-spark-job")
        self._thread.daemon = True
        self._thread.start()

    def _wait_for_all(self) -> None:
        deadline = time.monotonic() + self._start_timeout
        here: set[int] = set()
        while len(here) < self.num_workers:
            event = self.next_event(0.2)
            if isinstance(event, WorkerReady):
                here.add(event.worker)
            elif time.monotonic() > deadline:
                raise BackendError(
                    f"only {len(here)} of num_workers={self.num_workers} workers started within "
                    f"{self._start_timeout:g} s: the cluster has too few free task slots. Lower "
                    "num_workers, add executors or cores, or end other jobs of this application"
                )
        self._ready = [WorkerReady(worker) for worker in sorted(here)]

    def _check_slots(self) -> None:
        master = self._context.master
        slots = _slots(self._context)
        # Elsewhere executors may still be on their way: the start timeout decides.
        if (
            master.startswith("local")
            and not master.startswith("local-cluster")
            and self.num_workers > slots
        ):
            raise BackendError(
                f"num_workers={self.num_workers} is more than the {slots} task slots of "
                f"{master!r}: lower num_workers, or start Spark with more"
            )

    def _served(self) -> DriverServer:
        if self._server is None:
            raise BackendError("the workers were not started")
        return self._server


def _task(
    job: WorkerJob, address: str, secret: str
) -> Callable[[int, Iterator[Any]], Iterator[Any]]:
    """What each Spark task runs: a worker, until the run is over."""

    def run(number: int, _: Iterator[Any]) -> Iterator[Any]:
        from pyspark import TaskContext

        link = WorkerLink(address, number, secret)
        try:
            check_store(job.store, job.run_id)
            from cerebros_spark.training import devices

            resources = TaskContext.get().resources()
            gpus = list(resources["gpu"].addresses) if "gpu" in resources else None
            devices.configure(job.threads, gpus, job.deterministic)
            Worker(job, number).serve(link)
        except BackendError:
            raise
        except Exception as error:
            link.fatal(error)
            raise
        finally:
            link.close()
        return iter(())

    return run


def _look(store: Store, token: str) -> Callable[[int], str]:
    def look(_: int) -> str:
        try:
            check_store(store, token)
        except StoreError as error:
            return str(error)
        return ""

    return look


def _active_context() -> Any:
    from pyspark import SparkContext

    context = SparkContext._active_spark_context
    if context is None:
        raise ArgumentError(
            "there is no Spark: start a SparkSession and pass spark_context=spark.sparkContext"
        )
    return context


def _slots(context: Any) -> int:
    cpus = int(context.getConf().get("spark.task.cpus", "1"))
    return max(1, int(context.defaultParallelism) // cpus)


def _explain(error: BaseException) -> str:
    text = str(error)
    if "No module named 'cerebros_spark'" in text:
        return (
            "the workers' Python can't import cerebros_spark: set PYSPARK_PYTHON to an "
            f"environment that has it (this one is {sys.executable}), or send one along with "
            "spark-submit --archives"
        )
    return f"Spark ended the workers' job: {text}"


def _conforms(backend: SparkBackend) -> Backend:
    return backend
