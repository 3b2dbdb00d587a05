"""Where compiled programs are kept, so that the next process need not compile them again."""

from __future__ import annotations

import functools
import hashlib
import logging
import os
import platform
import stat
import tempfile
import time
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import Any

logger = logging.getLogger("cerebros_spark")

_FLAGS = "TF_XLA_FLAGS"
_DIRECTORY = "--tf_xla_persistent_cache_directory"
_DAYS = 30
_ROUND = 2**17  # 30 ms of counting at most; more than a process has made when it begins to train


@functools.cache
def keep_compiled() -> None:
    """Has XLA keep what it compiles in a folder of this user on this machine.

    It counts if TensorFlow has not been imported in this process yet. ``TF_XLA_FLAGS`` that name a
    folder already are left alone. Programs that nobody has used for 30 days are removed.
    """
    flags = os.environ.get(_FLAGS, "")
    if _DIRECTORY in flags:
        return
    try:
        folder = _folder()
    except OSError as error:
        logger.info("compiled programs are not kept: %s", error)
        return
    os.environ[_FLAGS] = f"{flags} {_DIRECTORY}={folder}".strip()


def compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    """A function of tensors that XLA compiles, under names by which another process finds it."""
    import tensorflow as tf

    @functools.wraps(function)
    def traced(*values: Any) -> Any:
        _name_alike()
        return function(*values)

    told: Callable[..., Any] = tf.function(traced, jit_compile=True, autograph=False)
    return told


def _name_alike() -> None:
    """Has what is traced next bear the names that it would bear in another process, too.

    What XLA compiled is found again by its names, and TensorFlow numbers functions by all that the
    process has made before, tensors included. It goes on from the next round number here.
    """
    try:
        from tensorflow.python.framework.ops import uid
    except ImportError:  # not TensorFlow's public face: without it more is compiled, that is all
        return
    while uid() % _ROUND:
        pass


def _folder() -> Path:
    # What is compiled for one processor or TensorFlow may crash another, so it lies on no share.
    home = Path(tempfile.gettempdir(), f"cerebros_spark-xla-{os.getuid()}")
    if any(each.isspace() for each in str(home)):
        raise OSError(f"TensorFlow's flags can't name {str(home)!r}")
    home.mkdir(mode=0o700, exist_ok=True)
    about = home.lstat()
    if not stat.S_ISDIR(about.st_mode) or about.st_uid != os.getuid() or about.st_mode & 0o077:
        raise OSError(f"{home} is not this user's alone: others could put programs there")
    folder = home / hashlib.sha256(_machine().encode()).hexdigest()[:16]
    folder.mkdir(exist_ok=True)
    for kept in folder.iterdir():
        if time.time() - max(kept.stat().st_atime, kept.stat().st_mtime) > _DAYS * 86_400:
            kept.unlink(missing_ok=True)
    return folder


def _machine() -> str:
    """All that a compiled program depends on besides itself."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    told = {line for line in lines if line.startswith(("model name", "flags", "Features"))}
    return "\n".join([metadata.version("tensorflow"), platform.machine(), *sorted(told)])
