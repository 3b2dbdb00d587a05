"""Cache of XLA-compiled programs, shared by all processes of a user on one machine."""

from __future__ import annotations

import functools
import hashlib
import logging
import os
import platform
import time
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import Any

from cerebros_spark.core.user_folder import prepare_user_folder

logger = logging.getLogger(__name__)

_FLAGS = "TF_XLA_FLAGS"
_DIRECTORY = "--tf_xla_persistent_cache_directory"
_MAX_UNUSED_DAYS = 30
_UID_MULTIPLE = 2**17  # reached in at most 30 ms; more than a process uses before it trains


@functools.cache
def enable_xla_cache() -> None:
    """Enable XLA's persistent cache, in a folder of the current user.

    Call this before TensorFlow is imported. If ``TF_XLA_FLAGS`` already names a cache folder, it is
    kept. Otherwise, cached programs that were not used for 30 days are deleted.
    """
    flags = os.environ.get(_FLAGS, "")
    if _DIRECTORY in flags:
        return
    try:
        folder = _prepare_folder()
    except OSError as error:
        logger.info("disabled the cache of compiled programs: %s", error)
        return
    os.environ[_FLAGS] = f"{flags} {_DIRECTORY}={folder}".strip()


def compile_with_xla(function: Callable[..., Any]) -> Callable[..., Any]:
    """Compile a function of tensors with XLA so that other processes can reuse the result."""
    import tensorflow as tf

    from cerebros_spark.compat.tensorflow import advance_name_counter

    @functools.wraps(function)
    def traced(*values: Any) -> Any:
        # Cache keys contain names with a number, which counts all names in the process so far.
        # Start at a number that is the same in other processes.
        advance_name_counter(_UID_MULTIPLE)
        return function(*values)

    compiled: Callable[..., Any] = tf.function(traced, jit_compile=True, autograph=False)
    return compiled


def _prepare_folder() -> Path:
    # A program compiled for another CPU or TensorFlow may crash: use a folder of this machine.
    home = prepare_user_folder("xla")
    if any(each.isspace() for each in str(home)):
        raise OSError(f"TensorFlow's flags cannot contain {str(home)!r}")
    folder = home / hashlib.sha256(_describe_machine().encode()).hexdigest()[:16]
    folder.mkdir(exist_ok=True)
    for file in folder.iterdir():
        unused = time.time() - max(file.stat().st_atime, file.stat().st_mtime)
        if unused > _MAX_UNUSED_DAYS * 86_400:
            file.unlink(missing_ok=True)
    return folder


def _describe_machine() -> str:
    """Return a string of all that compiled programs depend on: TensorFlow, XLA's flags, the CPU."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    cpu = {line for line in lines if line.startswith(("model name", "flags", "Features"))}
    # XLA's own keys leave out its flags, although they change the code that it generates.
    flags = os.environ.get("XLA_FLAGS", "")
    words = [metadata.version("tensorflow"), flags, platform.machine(), *sorted(cpu)]
    return "\n".join(words)
