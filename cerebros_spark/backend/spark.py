"""Workers as long-lived Spark tasks: Spark places them, restarts them and gives them a GPU."""

from __future__ import annotations

import logging
import os
import queue
import re
import secrets
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from typing import Any

from cerebros_spark.backend.base import Backend, WorkerEvent, check_workers
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
        check_workers(self.num_workers)
        self._start_timeout = start_timeout
        self._server: DriverServer | None = None
        self._job: _SparkJob | None = None
        self._ready: list[WorkerEvent] = []

    def check(self, store: Store) -> None:
        """Looks at the task slots, and at the store from short tasks on the executors."""
        if self._context.getConf().get("spark.speculation", "false").lower() == "true":
            raise BackendError(
                "spark.speculation is on: Spark would start workers a second time while the first "
                "still train. Start the application with spark.speculation=false"
            )
        self._check_slots()
        token = f"check-{uuid.uuid4().hex}"
        store.write(probe_key(token), token.encode())
        told: list[str] = []
        numbers = self._context.parallelize(range(self.num_workers), self.num_workers)
        job = _SparkJob(
            self._context,
            "cerebros_spark check",
            lambda: told.extend(numbers.map(_look(store, token)).collect()),
        )
        try:
            job.wait(self._start_timeout)
            if job.running:
                raise BackendError(self._too_few(0))
            if job.error is not None:
                raise BackendError(_explain(job.error)) from job.error
        finally:
            job.cancel()
            store.delete(f"runs/{token}")
        missing = [message for message in told if message]
        if missing:
            raise StoreError(missing[0])

    def start(self, job: WorkerJob) -> None:
        """Starts the Spark job and waits until every worker has registered."""
        self._check_slots()
        host = self._context.getConf().get("spark.driver.host")
        bind = self._context.getConf().get("spark.driver.bindAddress", host)
        secret = secrets.token_hex(32)
        self._ready = []
        self._server = DriverServer(self.num_workers, bind, secret)
        task = _task(job, f"{host}:{self._server.port}", secret)
        numbers = self._context.parallelize(range(self.num_workers), self.num_workers)
        self._job = _SparkJob(
            self._context,
            "cerebros_spark workers",
            lambda: numbers.mapPartitionsWithIndex(task).count(),
        )
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
                if self._job is not None and not self._job.running:
                    raise BackendError(_explain(self._job.error)) from self._job.error
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
        if self._job is not None:
            # A task that trains asks when its unit is done; after a while it is ended.
            self._job.wait(10.0)
            self._job.cancel()
        self._server.close()
        self._server = self._job = None

    # The Spark job -----------------------------------------------------------------------

    def _wait_for_all(self) -> None:
        deadline = time.monotonic() + self._start_timeout
        here: set[int] = set()
        while len(here) < self.num_workers:
            event = self.next_event(0.2)
            if isinstance(event, WorkerReady):
                here.add(event.worker)
            elif time.monotonic() > deadline:
                raise BackendError(self._too_few(len(here)))
        self._ready = [WorkerReady(worker) for worker in sorted(here)]

    def _too_few(self, here: int) -> str:
        return (
            f"only {here} of num_workers={self.num_workers} workers started within "
            f"{self._start_timeout:g} s: the cluster has too few free task slots. Lower "
            "num_workers, add executors or cores, or end other jobs of this application"
        )

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


class _SparkJob:
    """A Spark job in a thread, which can be waited for and cancelled."""

    def __init__(self, context: Any, title: str, action: Callable[[], Any]) -> None:
        from pyspark import InheritableThread

        self.error: BaseException | None = None
        self._context = context
        self._group = f"cerebros-{uuid.uuid4().hex[:8]}"

        def run() -> None:
            context.setJobGroup(self._group, title, interruptOnCancel=True)
            try:
                action()
            except BaseException as error:
                self.error = error

        self._thread = InheritableThread(target=run, name=title, daemon=True)
        self._thread.start()

    @property
    def running(self) -> bool:
        return bool(self._thread.is_alive())

    def wait(self, seconds: float) -> None:
        self._thread.join(timeout=seconds)

    def cancel(self) -> None:
        """Ends the job if it still runs."""
        if self.running:
            self._context.cancelJobGroup(self._group)
            self._thread.join(timeout=30.0)


def _task(
    job: WorkerJob, address: str, secret: str
) -> Callable[[int, Iterator[Any]], Iterator[Any]]:
    """What each Spark task runs: a worker, until the run is over."""

    def run(number: int, _: Iterator[Any]) -> Iterator[Any]:
        link = WorkerLink(address, number, secret)
        try:
            check_store(job.store, job.run_id)
            configure_task(job.threads, job.deterministic)
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


def configure_task(threads: int | None = None, deterministic: bool = False) -> None:
    """Gives TensorFlow in a Spark task its threads and the GPU that Spark assigned to the task.

    Args:
        threads: Number of threads; as many as the task has CPUs by default.
        deterministic: Ask for operations that give the same bits each time.
    """
    from pyspark import TaskContext

    from cerebros_spark.training import devices

    task = TaskContext.get()
    resources = task.resources() if task else {}
    gpus = list(resources["gpu"].addresses) if "gpu" in resources else None
    devices.configure(threads or (task.cpus() if task else 1), gpus, deterministic)


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
    """Task slots of the application, as far as its configuration tells."""
    conf = context.getConf()
    cpus = int(conf.get("spark.task.cpus", "1"))
    return max(1, _cores(context.master, conf, context.defaultParallelism) // cpus)


def _cores(master: str, conf: Any, otherwise: int) -> int:
    cluster = re.fullmatch(r"local-cluster\[\s*(\d+)\s*,\s*(\d+)\s*,\s*\d+\s*\]", master)
    if cluster:
        return int(cluster[1]) * int(cluster[2])
    local = re.fullmatch(r"local(?:\[\s*(\d+|\*)\s*(?:,.*)?\])?", master)
    if local:
        return (os.cpu_count() or 1) if local[1] == "*" else int(local[1] or 1)
    if conf.get("spark.executor.instances"):
        return int(conf.get("spark.executor.instances")) * int(
            conf.get("spark.executor.cores", "1")
        )
    return int(conf.get("spark.cores.max", str(otherwise)))


def _explain(error: BaseException | None) -> str:
    text = str(error) if error else "its tasks ended though the run had not"
    if "No module named 'cerebros_spark'" in text:
        return (
            "the workers' Python can't import cerebros_spark: set PYSPARK_PYTHON to an "
            f"environment that has it (this one is {sys.executable}), or send one along with "
            "spark-submit --archives"
        )
    return f"Spark ended the workers' job: {text}"


def _conforms(backend: SparkBackend) -> Backend:
    return backend
