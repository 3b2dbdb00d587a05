"""Sets up TensorFlow in a process, before its first use there."""

from __future__ import annotations

import logging
import os
import re
import sys
import tempfile
from collections.abc import Sequence
from importlib import import_module

from cerebros_spark.core.errors import ArgumentError
from cerebros_spark.training.keras.xla_cache import keep_compiled

logger = logging.getLogger("cerebros_spark")

# What TensorFlow's native library says of itself at information level.
_CHATTER = re.compile(rb"I\d{4} |WARNING: All log messages before absl|To enable the following")

# The GPUs that this process was given.
_shown: str | None = None


def relax() -> None:
    """Takes back the wish for deterministic operations, for what the process does next."""
    # TensorFlow has a public way in, but none out.
    from tensorflow.python.framework import config

    config.disable_op_determinism()


def quiet() -> None:
    """Keeps TensorFlow's start-up chatter off the user's terminal; errors still show."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    os.environ.setdefault("KERAS_BACKEND", "tensorflow")
    os.environ.setdefault("GRPC_VERBOSITY", "ERROR")


def check_keras_backend() -> None:
    """Refuses a process whose Keras runs, or would run, on something other than TensorFlow.

    Raises:
        ArgumentError: If so; the message says what to do.
    """
    told = os.environ.get("KERAS_BACKEND") or "tensorflow"
    keras = sys.modules.get("keras")
    if keras is not None and hasattr(keras, "backend"):
        told = keras.backend.backend()
    if told != "tensorflow":
        raise ArgumentError(
            f"the Keras trainer needs the TensorFlow backend, but Keras is on {told!r} here: unset "
            "KERAS_BACKEND and start a fresh process"
        )


def load_tensorflow() -> None:
    """Imports TensorFlow and Keras without the lines they print while they load.

    The environment has no say in those of the native library, so the process' error stream is
    held back for the seconds it takes; whatever else was written meanwhile is passed on.

    Raises:
        ArgumentError: If Keras is told to run on something else, or does already.
    """
    check_keras_backend()
    if "tensorflow" in sys.modules:
        return
    quiet()
    keep_compiled()
    sys.stderr.flush()
    stream = os.dup(2)
    with tempfile.TemporaryFile() as held:
        os.dup2(held.fileno(), 2)
        try:
            import_module("tensorflow")
            import_module("keras")
        finally:
            sys.stderr.flush()
            os.dup2(stream, 2)
            os.close(stream)
            held.seek(0)
            for line in held.read().splitlines(keepends=True):
                if not _CHATTER.match(line):
                    os.write(2, line)


def configure(
    threads: int, gpus: Sequence[str] | None, deterministic: bool, workers: int = 1
) -> None:
    """Gives TensorFlow its threads and its GPU.

    Args:
        threads: Threads for one operation, and operations at a time. Two workers on one
            machine would otherwise both take all of its cores.
        gpus: Addresses of the GPUs that are this process' own, as ``nvidia-smi`` numbers them;
            the others are hidden, and memory is taken as it is needed. None leaves things as they
            are. A process that was given others before keeps those: CUDA looks once.
        deterministic: Ask for operations that give the same bits each time.
        workers: Number of workers in this process.
    """
    if gpus is not None:
        _show_only(gpus)
    load_tensorflow()
    import tensorflow as tf

    if deterministic:
        tf.config.experimental.enable_op_determinism()
    try:
        tf.config.threading.set_intra_op_parallelism_threads(threads)
        tf.config.threading.set_inter_op_parallelism_threads(threads * workers)
        for device in tf.config.list_physical_devices("GPU"):
            tf.config.experimental.set_memory_growth(device, True)
    except RuntimeError:
        # TensorFlow is in use already: what it has stays.
        if deterministic and tf.config.threading.get_intra_op_parallelism_threads() != threads:
            logger.warning(
                "TensorFlow was started before this run, so it keeps its own number of threads "
                "instead of %d; results may differ in their last bits from those of other runs. "
                "Start a fresh process to compare runs bit for bit.",
                threads,
            )


def _show_only(gpus: Sequence[str]) -> None:
    """Hides all other GPUs from CUDA, which must not have started yet."""
    global _shown
    wanted = ",".join(gpus)
    if _shown is not None and _shown != wanted:
        logger.warning(
            "this Python process uses GPU %s since an earlier task and can't change to GPU %s, "
            "which Spark has assigned to this one: two tasks may share a GPU. Start the "
            "application with spark.python.worker.reuse=false to have a process for each task",
            _shown,
            wanted,
        )
        return
    _shown = wanted
    # Addresses are nvidia-smi's, which CUDA numbers by speed unless it is told.
    os.environ.setdefault("CUDA_DEVICE_ORDER", "PCI_BUS_ID")
    os.environ["CUDA_VISIBLE_DEVICES"] = wanted
