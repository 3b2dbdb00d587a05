"""Fixes for Petastorm's worker pools, whose workers read row groups.

Another thread assigns the row groups. At the end of an epoch, Petastorm's dummy and thread pools
first check whether all assigned row groups have been read, and then whether all row groups have
been assigned. If the last ones are assigned between the two checks, their rows are silently lost.
The fixes reverse the order of the checks. The thread pool could also skip a worker whose row group
had not been assigned yet, so that the same seed gave different orders.
"""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from types import ModuleType
from typing import Any

from cerebros_spark.compat.petastorm.importer import ModuleView

# The processes of the process pool import Petastorm too.
_RUN_MODULE = """
import runpy
from cerebros_spark.compat.petastorm.loading import load_petastorm
load_petastorm()
runpy.run_module({!r}, run_name="__main__")
"""


def amend_dummy_pool(module: ModuleType) -> None:
    """Replace ``DummyPool`` in ``petastorm.workers_pool.dummy_pool`` with the fixed class."""

    class DummyPool(module.DummyPool):  # type: ignore[name-defined]
        """Petastorm's pool without threads, fixed so that it reads all row groups."""

        def get_results(self) -> Any:
            while True:
                try:
                    return super().get_results()
                except module.EmptyResultError:
                    if not self._ventilator_queue:
                        raise

    module.DummyPool = DummyPool  # type: ignore[attr-defined]


def amend_new_process(module: ModuleType) -> None:
    """Make the processes of ``petastorm.workers_pool.exec_in_new_process`` load Petastorm first."""

    def popen(args: Sequence[str], **options: Any) -> subprocess.Popen[bytes]:
        python, _, name, file = args
        return subprocess.Popen([python, "-c", _RUN_MODULE.format(name), file], **options)

    module.subprocess = ModuleView(  # type: ignore[attr-defined]
        "subprocess", {"Popen": popen}, subprocess
    )


def amend_thread_pool(module: ModuleType) -> None:
    """Replace ``ThreadPool`` in ``petastorm.workers_pool.thread_pool`` with the fixed class."""

    class ThreadPool(module.ThreadPool):  # type: ignore[name-defined]
        """Petastorm's thread pool, fixed so that it reads all row groups in order."""

        def current_worker_done(self, worker_id: int) -> bool:
            # A worker without work may still get some; the next row group is then its.
            handed_out = self._ventilator is None or self._ventilator.completed()
            return handed_out and super().current_worker_done(worker_id)

    module.ThreadPool = ThreadPool  # type: ignore[attr-defined]
