"""Setup of TensorFlow and Keras in a process, before their first use."""

from __future__ import annotations

import contextlib
import logging
import os
import re
import sys
import tempfile
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib import import_module

from cerebros_spark.compat.tensorflow import disable_op_determinism
from cerebros_spark.core.errors import ArgumentError
from cerebros_spark.training.keras.xla_cache import enable_xla_cache

logger = logging.getLogger(__name__)

# Lines that TensorFlow's native library prints at info level.
_STARTUP_LINE = re.compile(
    rb"I\d{4} |WARNING: All log messages before absl|To enable the following"
)

# Packages that Keras and KerasTuner import if they are installed.
_UNUSED = ("matplotlib", "scipy", "sklearn")

#: GPUs that this process may use, as in CUDA_VISIBLE_DEVICES; None until they are set.
visible_gpus: str | None = None

_lock = threading.RLock()


@dataclass(frozen=True)
class _Settings:
    threads: int
    deterministic: bool
    workers: int


# Settings that configure() deferred until TensorFlow is imported.
_deferred: _Settings | None = None


def disable_determinism() -> None:
    """Disable deterministic TensorFlow operations.

    If :func:`configure` deferred settings that have not been applied yet, drop these instead.
    """
    global _deferred
    with _lock:
        if _deferred is None:
            disable_op_determinism()
        _deferred = None


def check_keras_backend() -> None:
    """Check that Keras uses, or will use once it is imported, the TensorFlow backend.

    Raises:
        ArgumentError: If Keras uses a backend other than TensorFlow.
    """
    backend = os.environ.get("KERAS_BACKEND") or "tensorflow"
    keras = sys.modules.get("keras")
    if keras is not None and hasattr(keras, "backend"):
        backend = keras.backend.backend()
    if backend != "tensorflow":
        raise ArgumentError(
            f"the Keras trainer needs the TensorFlow backend, but Keras is on {backend!r} here: "
            "unset KERAS_BACKEND and start a fresh process"
        )


def prepare_tensorflow() -> None:
    """Set the environment variables that TensorFlow and Keras read when they are imported.

    TensorFlow 2.21 still prints that a machine has no CUDA drivers; no variable prevents that.

    Raises:
        ArgumentError: If Keras uses a backend other than TensorFlow.
    """
    check_keras_backend()
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    os.environ.setdefault("KERAS_BACKEND", "tensorflow")
    os.environ.setdefault("GRPC_VERBOSITY", "ERROR")
    enable_xla_cache()


def load_tensorflow(*, owns_process: bool = False, others: Sequence[str] = ()) -> None:
    """Import TensorFlow and Keras, and apply the settings that :func:`configure` deferred.

    Args:
        owns_process: Whether this process runs a command or a daemon of this package, instead of a
            user's script. If so, startup messages of TensorFlow's native library are hidden, and
            Keras is imported without packages that only its plots and its scikit-learn wrappers
            use, because they take a third of the import time. They can be imported afterwards.
        others: Names of further modules to import in the same way.

    Raises:
        ArgumentError: If Keras uses a backend other than TensorFlow.
    """
    global _deferred
    check_keras_backend()
    with _lock:
        if "tensorflow" not in sys.modules:
            prepare_tensorflow()
            with contextlib.ExitStack() as stack:
                if owns_process:
                    stack.enter_context(_hide_startup_lines())
                    stack.enter_context(_hide_packages(_UNUSED))
                import_module("tensorflow")
                import_module("keras")
                for name in others:
                    import_module(name)
        if _deferred is not None:
            settings, _deferred = _deferred, None
            _apply(settings)


@contextlib.contextmanager
def _hide_packages(names: Sequence[str]) -> Iterator[None]:
    """Return a context manager in which packages that are not imported yet cannot be imported."""
    hidden = [name for name in names if name not in sys.modules]
    for name in hidden:
        sys.modules[name] = None  # type: ignore[assignment]  # as Python's documentation has it
    try:
        yield
    finally:
        for name in hidden:
            del sys.modules[name]


@contextlib.contextmanager
def _hide_startup_lines() -> Iterator[None]:
    """Return a context manager that hides TensorFlow's startup lines on standard error.

    It prints all other lines at the end of the context.
    """
    sys.stderr.flush()
    stream = os.dup(2)
    with tempfile.TemporaryFile() as captured:
        os.dup2(captured.fileno(), 2)
        try:
            yield
        finally:
            sys.stderr.flush()
            os.dup2(stream, 2)
            os.close(stream)
            captured.seek(0)
            for line in captured.read().splitlines(keepends=True):
                if not _STARTUP_LINE.match(line):
                    os.write(2, line)


def configure(
    threads: int,
    gpus: Sequence[str] | None,
    deterministic: bool,
    workers: int = 1,
    *,
    defer: bool = False,
) -> None:
    """Configure TensorFlow's threads, GPUs and determinism in this process.

    GPU memory is allocated as needed.

    Args:
        threads: Number of threads within one operation, and number of parallel operations per
            worker.
        gpus: GPUs that this process may use, as numbered by ``nvidia-smi``; all others are hidden.
            If None, no GPU is hidden. CUDA reads these numbers once, so a process keeps its first
            GPUs.
        deterministic: Whether operations must give bit-identical results each time.
        workers: Number of workers in this process.
        defer: If True and TensorFlow is not imported yet, do not import it. The settings are
            applied when a trainer calls :func:`load_tensorflow`.

    Raises:
        ArgumentError: If Keras uses a backend other than TensorFlow.
    """
    global _deferred
    if gpus is not None:
        _hide_other_gpus(gpus)
    check_keras_backend()
    with _lock:
        _deferred = _Settings(threads, deterministic, workers)
        if not defer or "tensorflow" in sys.modules:
            load_tensorflow()


def _apply(settings: _Settings) -> None:
    import tensorflow as tf

    threads = settings.threads
    if settings.deterministic:
        tf.config.experimental.enable_op_determinism()
    try:
        tf.config.threading.set_intra_op_parallelism_threads(threads)
        tf.config.threading.set_inter_op_parallelism_threads(threads * settings.workers)
        for device in tf.config.list_physical_devices("GPU"):
            tf.config.experimental.set_memory_growth(device, True)
    except RuntimeError:
        # TensorFlow is in use already and keeps its settings.
        kept = tf.config.threading.get_intra_op_parallelism_threads()
        if settings.deterministic and kept != threads:
            logger.warning(
                "TensorFlow was started before this run, so it keeps its own number of threads "
                "instead of %d; results may differ in their last bits from those of other runs. "
                "Start a fresh process to compare runs bit for bit.",
                threads,
            )


def _hide_other_gpus(gpus: Sequence[str]) -> None:
    """Hide all GPUs except the given ones from CUDA, which must not be in use yet."""
    global visible_gpus
    wanted = ",".join(gpus)
    if visible_gpus is not None and visible_gpus != wanted:
        logger.warning(
            "this Python process has used GPU %s since an earlier task and cannot change to GPU "
            "%s, which Spark has assigned to this one: two tasks may share a GPU. Start the "
            "application with spark.python.worker.reuse=false to have a process for each task",
            visible_gpus,
            wanted,
        )
        return
    visible_gpus = wanted
    # Addresses are those of nvidia-smi, but CUDA numbers GPUs by speed by default.
    os.environ.setdefault("CUDA_DEVICE_ORDER", "PCI_BUS_ID")
    os.environ["CUDA_VISIBLE_DEVICES"] = wanted
