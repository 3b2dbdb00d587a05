"""Layers, losses and metrics of a user's own on their way to Spark's processes.

They travel by value inside the Spark job's own code, as Spark sends every function: what was
defined in a notebook or in a file that only the driver has need not be importable there. Nothing
that lies in the store is ever unpacked so.
"""

from __future__ import annotations

import contextlib
import os
import sys
import sysconfig
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from cerebros_spark.core.errors import ArgumentError


def packed(objects: Mapping[str, Any]) -> bytes:
    """The objects as bytes, those of the user's own modules with their code.

    Args:
        objects: Classes and functions by name.

    Raises:
        ArgumentError: If one can't be sent; the message names it.
    """
    if not objects:
        return b""
    from pyspark import cloudpickle

    with _by_value(objects):
        for name, value in objects.items():
            try:
                cloudpickle.dumps(value)
            except Exception as error:
                raise ArgumentError(
                    f"custom_objects[{name!r}] can't be sent to the workers: {error}. It must not "
                    "hold open files, locks, sessions or tensors"
                ) from error
        return bytes(cloudpickle.dumps(dict(objects)))


def can_be_sent(value: Any) -> bool:
    """Whether a class or function can be sent to Spark's processes."""
    try:
        packed({"it": value})
    except ArgumentError:
        return False
    return True


def unpacked(data: bytes) -> dict[str, Any]:
    """What :func:`packed` made bytes of."""
    if not data:
        return {}
    from pyspark import cloudpickle

    found: dict[str, Any] = cloudpickle.loads(data)
    return found


@contextlib.contextmanager
def _by_value(objects: Mapping[str, Any]) -> Iterator[None]:
    """Has the modules of the objects sent with their code, unless they are installed ones."""
    from pyspark import cloudpickle

    known = cloudpickle.list_registry_pickle_by_value()
    modules = {str(getattr(each, "__module__", "")) for each in objects.values()}
    own = [
        sys.modules[name]
        for name in sorted(modules)
        if name in sys.modules and name not in known and is_own_module(name)
    ]
    for module in own:
        cloudpickle.register_pickle_by_value(module)
    try:
        yield
    finally:
        for module in own:
            cloudpickle.unregister_pickle_by_value(module)


def is_own_module(name: str) -> bool:
    """Whether a module is a user's: no installed package, nothing of Python's or Spark's."""
    if name.partition(".")[0] in ("pyspark", "py4j"):
        return False
    if name == "__main__" or name not in sys.modules:
        return True  # a script, or the cells of a notebook
    path = getattr(sys.modules[name], "__file__", None)
    if path is None or not {"site-packages", "dist-packages"}.isdisjoint(Path(path).parts):
        return False
    spark = os.environ.get("SPARK_HOME")
    if spark and Path(spark) in Path(path).parents:
        return False
    paths = sysconfig.get_paths()
    return not any(path.startswith(paths[name]) for name in ("stdlib", "purelib", "platlib"))
