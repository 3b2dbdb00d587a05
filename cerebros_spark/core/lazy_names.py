"""Lazy loading of a package's public names, even if the package is in a zip archive."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import lazy_loader


def attach_stub(
    package: str, filename: str
) -> tuple[Callable[[str], Any], Callable[[], list[str]], list[str]]:
    """Attach the public names in a package's stub file, ``__init__.pyi``, for lazy loading.

    ``lazy_loader.attach_stub`` reads stubs from folders only, but executors import packages that
    ``spark-submit --py-files`` sent from a zip archive.

    Args:
        package: Name of the package.
        filename: The package's ``__file__``. The stub file is in the same folder.

    Returns:
        ``__getattr__``, ``__dir__`` and ``__all__`` of the package.

    Raises:
        ValueError: If the stub imports anything other than names from the package's modules.
    """
    if os.path.exists(f"{filename}i"):
        return lazy_loader.attach_stub(package, filename)
    from importlib.resources import as_file, files

    with as_file(files(package) / "__init__.pyi") as stub:
        return lazy_loader.attach_stub(package, str(stub))
