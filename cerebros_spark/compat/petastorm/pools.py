"""Amendments of Petastorm's pools, whose workers read row groups.

Another thread hands the row groups out. At the end of an epoch, Petastorm's dummy and thread
pools check first whether all row groups handed out are read, and then whether all are handed out.
If the last ones are handed out between the two checks, their rows are lost silently. Here the
checks come in the other order. The thread pool could also skip a worker whose row group was not
handed out yet, so that one seed gave several orders.
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
    """Replace the class ``DummyPool`` of ``petastorm.workers_pool.dummy_pool``."""

    class DummyPool(module.DummyPool):  # type: ignore[name-defined]
        """Petastorm's pool without threads, which reads all row groups."""

        def get_results(self) -> Any:
            while True:
                try:
                    return super().get_results()
                except module.EmptyResultError:
                    if not self._ventilator_queue:
                        raise

    module.DummyPool = DummyPool  # type: ignore[attr-defined]


def amend_new_process(module: ModuleType) -> None:
    """Replace ``subprocess`` in ``petastorm.workers_pool.exec_in_new_process``."""

    def popen(args: Sequence[str], **options: Any) -> subprocess.Popen[bytes]:
        python, _, name, file = args
        return subprocess.Popen([python, "-c", _RUN_MODULE.format(name), file], **options)

    module.subprocess = ModuleView(  # type: ignore[attr-defined]
        "subprocess", {"Popen": popen}, subprocess
    )


def amend_thread_pool(module: ModuleType) -> None:
    """Replace the class ``ThreadPool`` of ``petastorm.workers_pool.thread_pool``."""

    class ThreadPool(module.ThreadPool):  # type: ignore[name-defined]
        """Petastorm's pool of threads, which reads all row groups, and in their order."""

        def current_worker_done(self, worker_id: int) -> bool:
            # A worker without work may still get some; the next row group is then its.
            handed_out = self._ventilator is None or self._ventilator.completed()
            return handed_out and super().current_worker_done(worker_id)

    module.ThreadPool = ThreadPool  # type: ignore[attr-defined]
