"""Import of Petastorm, with replacements for names that its dependencies have removed."""

from __future__ import annotations

import importlib.util
import sys
import threading
from typing import Any

from cerebros_spark.compat.petastorm.importer import ModuleView, ViewImporter

_LOCK = threading.Lock()


def load_petastorm() -> Any:
    """Import Petastorm, even if its installed dependencies have removed names that it uses.

    Call this once in each process, before anything imports Petastorm. Afterwards, import Petastorm
    as usual: ``from petastorm import make_batch_reader``. Petastorm 0.13.1 by itself needs pyarrow
    14, NumPy 1 and the module ``distutils``; with these, nothing is replaced. Otherwise only
    Petastorm's modules see the replacements, and other code is unaffected.

    Returns:
        The module ``petastorm``.

    Raises:
        ImportError: If Petastorm is not installed, or its import fails.
    """
    with _LOCK:
        importer = None
        if "petastorm" not in sys.modules and not _works_alone():
            _forget_petastorm()  # parts of it are left if its import has failed before
            importer = _make_importer()
            sys.meta_path.insert(0, importer)
        try:
            import petastorm
        except BaseException:
            if importer is not None:
                sys.meta_path.remove(importer)
                _forget_petastorm()
            raise
        return petastorm


def _works_alone() -> bool:
    """Return whether the installed libraries have all the names that Petastorm needs."""
    import numpy as np
    import pyarrow.parquet as pq

    return (
        hasattr(pq, "ParquetDatasetPiece")
        and hasattr(np, "unicode_")
        and importlib.util.find_spec("distutils") is not None
    )


def _forget_petastorm() -> None:
    for name in list(sys.modules):
        if name.partition(".")[0] == "petastorm":
            del sys.modules[name]


def _make_importer() -> ViewImporter:
    import numpy as np
    import pyarrow as pa
    import pyarrow.parquet as pq
    from fsspec import AbstractFileSystem
    from fsspec.implementations.arrow import HadoopFileSystem
    from packaging.version import Version

    from cerebros_spark.compat.petastorm.parquet import (
        LocalFileSystem,
        ParquetDataset,
        ParquetDatasetPiece,
    )
    from cerebros_spark.compat.petastorm.pools import (
        amend_dummy_pool,
        amend_new_process,
        amend_thread_pool,
    )

    def connect_hdfs(host: str, port: int, user: str | None = None) -> Any:
        return HadoopFileSystem(host=host, port=port, user=user)

    def is_in(values: Any, among: Any) -> Any:
        return np.isin(np.ravel(values), among)

    # Petastorm derives a class from it that forwards each call.
    hdfs = {"HadoopFileSystem": AbstractFileSystem, "connect": connect_hdfs}
    views = [
        ModuleView(
            "numpy",
            {"float": float, "in1d": is_in, "string_": np.bytes_, "unicode_": np.str_},
            np,
        ),
        filesystem := ModuleView("pyarrow.filesystem", {"LocalFileSystem": LocalFileSystem}),
        hadoop := ModuleView("pyarrow.hdfs", hdfs),
        parquet := ModuleView(
            "pyarrow.parquet",
            {"ParquetDataset": ParquetDataset, "ParquetDatasetPiece": ParquetDatasetPiece},
            pq,
        ),
        ModuleView(
            "pyarrow",
            {
                "LocalFileSystem": LocalFileSystem,
                "filesystem": filesystem,
                "hdfs": hadoop,
                "localfs": LocalFileSystem(),
                "parquet": parquet,
            },
            pa,
        ),
        version := ModuleView("distutils.version", {"LooseVersion": Version}),
        ModuleView("distutils", {"version": version}),
    ]
    amendments = {
        "petastorm.workers_pool.dummy_pool": amend_dummy_pool,
        "petastorm.workers_pool.exec_in_new_process": amend_new_process,
        "petastorm.workers_pool.thread_pool": amend_thread_pool,
    }
    return ViewImporter("petastorm", {view.__name__: view for view in views}, amendments)
