"""A backend's Spark jobs, and the functions that their tasks run."""

from __future__ import annotations

import dataclasses
import os
import socket
import uuid
from collections.abc import Callable
from typing import Any

from cerebros_spark.core.errors import BackendError, StoreError
from cerebros_spark.core.gc_control import freeze_heap
from cerebros_spark.core.pickling import pickle_objects, unpickle_objects
from cerebros_spark.rpc.auth import Access
from cerebros_spark.rpc.client import WorkerLink
from cerebros_spark.runs.artifacts import check_store
from cerebros_spark.runs.worker_config import WorkerConfig
from cerebros_spark.storage.store import Store
from cerebros_spark.worker.worker import Worker


class SparkJob:
    """Spark job, started by calling ``action`` in a thread of the driver.

    Attributes:
        error: The exception that ended the job; None if it is running or has succeeded.
    """

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
    def is_running(self) -> bool:
        """Whether the job is still running."""
        return bool(self._thread.is_alive())

    def wait(self, seconds: float) -> None:
        """Wait up to ``seconds`` for the job to end."""
        self._thread.join(timeout=seconds)

    def cancel(self) -> None:
        """Cancel the job if it is running, and wait up to 30 seconds for its end."""
        if self.is_running:
            self._context.cancelJobGroup(self._group)
            self._thread.join(timeout=30.0)


def make_worker_task(
    config: WorkerConfig, access: Access, heartbeat_seconds: float
) -> Callable[[int], None]:
    """Return a task function that runs the worker with a given index until the run ends.

    Raises:
        ArgumentError: If a custom object cannot be pickled.
    """
    pickled = pickle_objects(config.custom_objects)
    bare_config = dataclasses.replace(config, custom_objects={})

    def run(number: int) -> None:
        from pyspark import TaskContext

        # Filled once TensorFlow is configured: unpickling may import it.
        custom_objects: dict[str, Any] = {}
        config = dataclasses.replace(bare_config, custom_objects=custom_objects)
        worker = Worker(config, number)
        task = TaskContext.get()
        assert task is not None
        process = {
            "attempt": task.taskAttemptId(),
            "host": socket.gethostname(),
            "pid": os.getpid(),
        }
        link = WorkerLink(
            access,
            number,
            progress=lambda: worker.progress,
            process=process,
            heartbeat_seconds=heartbeat_seconds,
        )
        try:
            check_store(config.store, config.run_id)
            configure_task(config.threads, config.deterministic)
            custom_objects.update(unpickle_objects(pickled))
            with freeze_heap():
                worker.serve(link)
        except BackendError:
            raise
        except Exception as error:
            link.report_fatal(error)
            raise
        finally:
            link.close()

    return run


def make_worker_check(store: Store, token: str) -> Callable[[int], tuple[str, str]]:
    """Return a task function that checks whether its Spark task can read the store.

    ``token`` is the run ID of the probe that the driver wrote. The function ignores its argument
    and returns the task's pyspark version and an error message, which is empty on success.
    """

    def check(_: int) -> tuple[str, str]:
        import pyspark

        try:
            check_store(store, token)
        except StoreError as error:
            return pyspark.__version__, str(error)
        return pyspark.__version__, ""

    return check


def configure_task(threads: int | None = None, deterministic: bool = False) -> None:
    """Configure TensorFlow's threads, determinism and GPU in a Spark task.

    Args:
        threads: Number of threads. Defaults to the task's number of CPUs.
        deterministic: Whether to use only operations that give bit-identical results each time.
    """
    from pyspark import TaskContext

    from cerebros_spark.training.keras import tensorflow_runtime

    task = TaskContext.get()
    resources = task.resources() if task else {}
    gpus = list(resources["gpu"].addresses) if "gpu" in resources else None
    tensorflow_runtime.configure(threads or (task.cpus() if task else 1), gpus, deterministic)
