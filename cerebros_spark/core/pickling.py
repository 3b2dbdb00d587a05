"""Pickling of custom layers, losses and metrics for Spark's processes.

They are sent by value in the Spark job's code, as Spark sends every function, so workers need not
import objects that were defined in a notebook or script. The store contains no pickles.
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
    """Pickle classes and functions, including the code of those from user modules.

    Args:
        objects: Classes and functions by name.

    Returns:
        The pickled dict; empty bytes if there are no objects.

    Raises:
        ArgumentError: If an object cannot be pickled.
    """
    if not objects:
        return b""
    from pyspark import cloudpickle

    with _register_user_modules(objects):
        for name, value in objects.items():
            try:
                cloudpickle.dumps(value)
            except Exception as error:
                raise ArgumentError(
                    f"cannot send custom_objects[{name!r}] to the workers: {error}. It must not "
                    "contain open files, locks, sessions or tensors"
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
    """Unpickle the result of :func:`pickle_objects` and return the objects by name."""
    if not data:
        return {}
    from pyspark import cloudpickle

    objects: dict[str, Any] = cloudpickle.loads(data)
    return objects


@contextlib.contextmanager
def _register_user_modules(objects: Mapping[str, Any]) -> Iterator[None]:
    """Register the objects' user modules for pickling by value within the context."""
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
