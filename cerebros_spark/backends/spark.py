"""Workers as long-lived Spark tasks: Spark places them, restarts them and gives them a GPU."""

from __future__ import annotations

import dataclasses
import logging
import os
import queue
import re
import socket
import sys
import time
import uuid
from collections import Counter
from collections.abc import Callable
from typing import Any

from cerebros_spark.backends.base import Backend, WorkerEvent
from cerebros_spark.core.errors import ArgumentError, BackendError, StoreError
from cerebros_spark.core.events import UnitDone, UnitFailed, WorkerLost, WorkerReady
from cerebros_spark.core.gc_control import settled
from cerebros_spark.core.pickling import packed, unpacked
from cerebros_spark.core.validation import check_integer
from cerebros_spark.rpc.auth import Access
from cerebros_spark.rpc.server import DriverServer, WorkerLink
from cerebros_spark.runs.artifacts import check_store, probe_key
from cerebros_spark.runs.worker_config import WorkerConfig
from cerebros_spark.storage.store import Store
from cerebros_spark.worker.io_thread import Assignment
from cerebros_spark.worker.worker import Worker

logger = logging.getLogger("cerebros_spark")

_WATCH_SECONDS = 1.0
_GRACE_SECONDS = 10.0
_DEATHS = 3
_BEAT_SECONDS = 5.0


class SparkBackend:
    """Trains in tasks of a Spark application.

    A Spark job of one task for each worker runs while a search does and holds the task's slot; the
    tasks pull their work from the driver. Each uses ``spark.task.cpus`` threads and the GPU that
    Spark assigned to it, if it did. A task that dies is started again, by Spark or, where Spark
    has tried as often as it may, by another job; the other workers go on meanwhile.

    Args:
        spark_context: The SparkContext. The active one if it is None.
        num_workers: Number of workers, and of the partitions that the data is cut into. As many
            as the cluster has task slots if it is None.
        start_timeout: Seconds within which all workers must have come, and within which one that
            was lost must be back. By default 120, or 600 where executors have archives to unpack
            first (``spark.archives``).
        lease: Seconds without a sign of progress (a training or validation step; before the
            first one, a second of processor time) after which a worker is given up and its task
            is started again.
        port: The driver's port that workers connect to, for networks that let only named ports
            through; a free one if it is 0.

    Raises:
        ArgumentError: If there is no SparkContext or an argument is out of range.
    """

    def __init__(
        self,
        spark_context: Any = None,
        num_workers: int | None = None,
        *,
        start_timeout: float | None = None,
        lease: float = 300.0,
        port: int = 0,
    ) -> None:
        self._context = spark_context or _active_context()
        _run_this_python(self._context)
        self.threads = int(self._context.getConf().get("spark.task.cpus", "1"))
        given = _slots(self._context) if num_workers is None else num_workers
        self.num_workers = check_integer("num_workers", given, 1)
        if start_timeout is None:
            start_timeout = _start_timeout(self._context.getConf())
        for name, value in (("start_timeout", start_timeout), ("lease", lease)):
            if not value > 0:
                raise ArgumentError(f"{name} must be a number of seconds, but got {value!r}")
        self._start_timeout = start_timeout
        self._lease = lease
        self._port = check_integer("port", port, 0, 65535)
        self._server: DriverServer | None = None
        self._launch: Callable[[int], _SparkJob]
        self._jobs: list[_SparkJob] = []
        self._came: set[int] = set()  # workers that have been here
        self._away: set[int] = set()  # of them those that are known to be gone
        self._busy: Counter[int] = Counter()  # units that they were given and have not reported
        self._deaths: list[int] = []
        self._reasons: list[str] = []
        self._ready: list[WorkerEvent] = []
        self._watch_at = 0.0  # when the workers are looked after next, by the monotonic clock

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

    def start(self, job: WorkerConfig) -> None:
        """Starts the Spark jobs and waits until every worker has registered."""
        self._check_slots()
        custom_objects = packed(job.custom_objects)
        conf = self._context.getConf()
        host = conf.get("spark.driver.host")
        bind = conf.get("spark.driver.bindAddress", host)
        self._ready = []
        self._came, self._away, self._busy = set(), set(), Counter()
        self._deaths = [0] * self.num_workers
        self._reasons = [""] * self.num_workers
        self._server = DriverServer(
            self.num_workers, bind, public_host=host, port=self._port, lease=self._lease
        )
        # Several beats in a lease: one that is late must not cost a worker.
        beat = min(_BEAT_SECONDS, self._lease / 4)
        task = _task(job, custom_objects, self._server.access, beat)

        def launch(number: int) -> _SparkJob:
            one = self._context.parallelize([number], 1)
            title = f"cerebros_spark worker {number}"
            return _SparkJob(self._context, title, lambda: one.foreach(task))

        self._launch = launch
        try:
            for number in range(self.num_workers):
                self._jobs.append(launch(number))
            self._wait_for_all()
        except BaseException:
            self.stop()
            raise

    def send(self, worker: int, assignment: Assignment) -> None:
        """Gives an idle worker something to do."""
        self._busy[worker] += len(assignment.units)
        self._served().send(worker, assignment)

    def next_event(self, timeout: float) -> WorkerEvent | None:
        """The next thing a worker has to say, or that is to be said of one."""
        if self._ready:
            return self._ready.pop(0)
        deadline = time.monotonic() + timeout
        while True:
            now = time.monotonic()
            # By the clock, so not between each report and its answer; and what workers have said
            # comes first, for it tells more than that they are gone.
            if now >= self._watch_at and self._served().events.empty():
                self._watch()
                self._watch_at = time.monotonic() + _WATCH_SECONDS
            wait = min(max(self._watch_at, now), deadline) - now
            try:
                event = self._served().events.get(block=wait > 0, timeout=max(wait, 0.0))
            except queue.Empty:
                if time.monotonic() >= deadline:
                    return None
                continue
            self._heed(event)
            return event

    def stop(self) -> None:
        """Ends the Spark jobs."""
        if self._server is None:
            return
        self._server.stop()
        # A task that trains asks when its unit is done; after a while it is ended.
        deadline = time.monotonic() + _GRACE_SECONDS
        for job in self._jobs:
            job.wait(max(0.0, deadline - time.monotonic()))
        for job in self._jobs:
            job.cancel()
        self._server.close()
        self._server, self._jobs = None, []

    # Workers that come, die and stay away ------------------------------------------------

    def _heed(self, event: WorkerEvent) -> None:
        """What an event says of its worker's health."""
        if isinstance(event, WorkerReady):
            worker = event.worker
            # One that died in a unit is the scheduler's matter: it may be the network's fault.
            if worker in self._came and worker not in self._away and not self._busy[worker]:
                self._died(worker, "its process ended")
            self._came.add(worker)
            self._away.discard(worker)
            self._busy[worker] = 0
        elif isinstance(event, WorkerLost):
            self._away.add(event.worker)
            if event.fatal:
                self._died(event.worker, event.reason)
            else:
                self._end_task(event.worker, event.reason)
        elif isinstance(event, UnitDone):
            self._busy[event.result.worker] -= 1
            self._deaths[event.result.worker] = 0
        elif isinstance(event, UnitFailed):
            self._busy[event.failure.worker] -= 1

    def _watch(self) -> None:
        """Gives up workers that hang, and starts again those whose Spark job has ended."""
        server = self._served()
        server.expire()
        for worker, job in enumerate(self._jobs):
            if not job.running:
                if len(self._came) < self.num_workers:
                    raise BackendError(_explain(job.error)) from job.error
                reason = self._reasons[worker] = _explain(job.error)
                if worker not in self._away and not self._busy[worker]:
                    self._died(worker, reason)
                server.lose(worker, reason)
                self._jobs[worker] = self._launch_again(worker)
        away = server.missing(self._start_timeout) if len(self._came) == self.num_workers else []
        for worker in away:
            raise BackendError(
                f"worker {worker} has been away for {self._start_timeout:g} s, and nobody else "
                f"holds its partition{self._last_word(worker)}. What is finished is kept: see to "
                "the cluster and run the same again with overwrite=False"
            )

    def _launch_again(self, worker: int) -> _SparkJob:
        try:
            return self._launch(worker)
        except Exception as error:
            raise BackendError(
                f"worker {worker} can't be started again, Spark is gone: {error}. What is finished "
                "is kept: start Spark and run the same again with overwrite=False"
            ) from error

    def _died(self, worker: int, reason: str) -> None:
        """Counts a death that no unit is to blame for; raises BackendError at the third."""
        self._reasons[worker] = reason
        self._deaths[worker] += 1
        if self._deaths[worker] >= _DEATHS:
            raise BackendError(
                f"worker {worker} died {_DEATHS} times without finishing a unit"
                f"{self._last_word(worker)}. What is finished is kept: see to the cause and run "
                "the same again with overwrite=False"
            )

    def _last_word(self, worker: int) -> str:
        reason = self._reasons[worker]
        return f"; the last it said: {reason}" if reason else ""

    def _end_task(self, worker: int, reason: str) -> None:
        """Has Spark end the task of a worker that was given up, and start it anew."""
        attempt = self._served().departed(worker).get("attempt")
        if attempt is not None:
            # PySpark has no method of its own for it.
            self._context._jsc.sc().killTaskAttempt(attempt, True, reason)

    # The Spark job -----------------------------------------------------------------------

    def _wait_for_all(self) -> None:
        deadline = time.monotonic() + self._start_timeout
        while len(self._came) < self.num_workers:
            event = self.next_event(0.2)
            if isinstance(event, WorkerLost):
                raise BackendError(f"worker {event.worker} can't start: {event.reason}")
            if time.monotonic() > deadline:
                raise BackendError(self._too_few(len(self._came)))
        self._ready = [WorkerReady(worker) for worker in sorted(self._came)]

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
    job: WorkerConfig, custom_objects: bytes, access: Access, beat_seconds: float
) -> Callable[[int], None]:
    """What each Spark task runs: a worker, until the run is over."""
    bare = dataclasses.replace(job, custom_objects={})

    def run(number: int) -> None:
        from pyspark import TaskContext

        # Filled below, when TensorFlow is set up: what is unpacked may import it.
        objects: dict[str, Any] = {}
        job = dataclasses.replace(bare, custom_objects=objects)
        worker = Worker(job, number)
        task = TaskContext.get()
        assert task is not None
        about = {
            "attempt": task.taskAttemptId(),
            "host": socket.gethostname(),
            "pid": os.getpid(),
        }
        link = WorkerLink(
            access,
            number,
            progress=lambda: worker.progress,
            about=about,
            beat_seconds=beat_seconds,
        )
        try:
            check_store(job.store, job.run_id)
            configure_task(job.threads, job.deterministic)
            objects.update(unpacked(custom_objects))
            with settled():
                worker.serve(link)
        except BackendError:
            raise
        except Exception as error:
            link.fatal(error)
            raise
        finally:
            link.close()

    return run


def configure_task(threads: int | None = None, deterministic: bool = False) -> None:
    """Gives TensorFlow in a Spark task its threads and the GPU that Spark assigned to the task.

    Args:
        threads: Number of threads; as many as the task has CPUs by default.
        deterministic: Ask for operations that give the same bits each time.
    """
    from pyspark import TaskContext

    from cerebros_spark.training.keras import tensorflow_runtime

    task = TaskContext.get()
    resources = task.resources() if task else {}
    gpus = list(resources["gpu"].addresses) if "gpu" in resources else None
    tensorflow_runtime.configure(threads or (task.cpus() if task else 1), gpus, deterministic)


def _look(store: Store, token: str) -> Callable[[int], str]:
    def look(_: int) -> str:
        try:
            check_store(store, token)
        except StoreError as error:
            return str(error)
        return ""

    return look


def _run_this_python(context: Any) -> None:
    """Have workers on the driver's machine run the driver's Python, unless another is set.

    PySpark would take the first ``python3`` of the path, which need not be the environment that
    the script runs in, and lacks its packages.
    """
    local = context.getConf().get("spark.master", "").startswith("local")
    chosen = "PYSPARK_PYTHON" in os.environ or context.getConf().get("spark.pyspark.python")
    if local and not chosen:
        context.pythonExec = sys.executable


def _active_context() -> Any:
    from pyspark import SparkContext

    context = SparkContext._active_spark_context
    if context is None:
        raise ArgumentError(
            "there is no Spark: start a SparkSession and pass spark_context=spark.sparkContext"
        )
    return context


def _start_timeout(conf: Any) -> float:
    """Seconds for executors to come; with an environment to unpack they take minutes."""
    unpack = any(conf.get(name, "") for name in ("spark.archives", "spark.yarn.dist.archives"))
    return 600.0 if unpack else 120.0


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
    return f"Spark ended its job: {_without_stack(text)}"


def _without_stack(text: str) -> str:
    """What Spark says of an error, less the JVM's stacks; a Python traceback stays."""
    text = text.partition("Driver stacktrace:")[0]
    lines = [line for line in text.splitlines() if not line.lstrip().startswith(("at ", "... "))]
    return "\n".join(line for line in lines if line.strip()).strip()


def _conforms(backend: SparkBackend) -> Backend:
    return backend
