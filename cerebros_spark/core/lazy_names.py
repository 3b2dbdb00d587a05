"""Public names of a package that load on first use, also from a zip archive of the package."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import lazy_loader


def attach_stub(
    package: str, filename: str
) -> tuple[Callable[[str], Any], Callable[[], list[str]], list[str]]:
    """Attach the names in a package's stub, ``__init__.pyi``, which is beside its ``__init__.py``.

    ``lazy_loader.attach_stub`` alone reads stubs from folders only. Executors import packages that
    ``spark-submit --py-files`` sent from an archive.

    Args:
        package: Name of the package.
        filename: Its ``__file__``.

    Returns:
        ``__getattr__``, ``__dir__`` and ``__all__`` of the package.

    Raises:
        ValueError: If the stub has other imports than those of names from modules of the package.
    """
    if os.path.exists(f"{filename}i"):
        return lazy_loader.attach_stub(package, filename)
    from importlib.resources import as_file, files

    with as_file(files(package) / "__init__.pyi") as stub:
        return lazy_loader.attach_stub(package, str(stub))
