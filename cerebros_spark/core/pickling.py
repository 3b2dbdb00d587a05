"""Pickling of custom layers, losses and metrics for Spark's processes.

They travel by value, inside the code of the Spark job, as Spark sends every function. Workers need
not be able to import what was defined in a notebook or script. The store holds no pickles.
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


def pickle_objects(objects: Mapping[str, Any]) -> bytes:
    """Return classes and functions as bytes, with the code of those from user modules.

    Args:
        objects: Classes and functions by name.

    Raises:
        ArgumentError: If one cannot be pickled; the message names it.
    """
    if not objects:
        return b""
    from pyspark import cloudpickle

    with _user_modules_by_value(objects):
        for name, value in objects.items():
            try:
                cloudpickle.dumps(value)
            except Exception as error:
                raise ArgumentError(
                    f"cannot send custom_objects[{name!r}] to the workers: {error}. It must not "
                    "hold open files, locks, sessions or tensors"
                ) from error
        return bytes(cloudpickle.dumps(dict(objects)))


def is_picklable(value: Any) -> bool:
    """Return whether a class or function can be sent to Spark's processes."""
    try:
        pickle_objects({"value": value})
    except ArgumentError:
        return False
    return True


def unpickle_objects(data: bytes) -> dict[str, Any]:
    """Return the objects of :func:`pickle_objects`."""
    if not data:
        return {}
    from pyspark import cloudpickle

    objects: dict[str, Any] = cloudpickle.loads(data)
    return objects


@contextlib.contextmanager
def _user_modules_by_value(objects: Mapping[str, Any]) -> Iterator[None]:
    """Register the objects' user modules to be pickled by value."""
    from pyspark import cloudpickle

    registered = cloudpickle.list_registry_pickle_by_value()
    names = {str(getattr(value, "__module__", "")) for value in objects.values()}
    modules = [
        sys.modules[name]
        for name in sorted(names)
        if name in sys.modules and name not in registered and is_user_module(name)
    ]
    for module in modules:
        cloudpickle.register_pickle_by_value(module)
    try:
        yield
    finally:
        for module in modules:
            cloudpickle.unregister_pickle_by_value(module)


def is_user_module(name: str) -> bool:
    """Return whether a module is neither installed nor part of Python or Spark."""
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
