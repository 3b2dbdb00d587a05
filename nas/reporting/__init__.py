"""Report of a run as one HTML page: leaderboard, charts, worker timeline and best network.

The page is generated from the store alone (the journal, the trials' specs and the data's manifest),
so it can also show a run that is in progress or was interrupted. It is a single file that loads no
other files. The command ``python -m nas.reporting RUN report.html`` writes it.
"""

from __future__ import annotations

import html
import os
from pathlib import Path

from cerebros_spark.core.errors import ArgumentError
from cerebros_spark.storage.local import LocalStore
from cerebros_spark.storage.store import Store


def write_report(store: Store, run_id: str, path: str | os.PathLike[str]) -> bool:
    """Write a run's HTML page, atomically replacing any existing file.

    Args:
        store: The store that contains the run.
        run_id: Name of the run: its ``project_name``.
        path: The HTML file; its folder is created if needed.

    Returns:
        Whether the run is finished, which means that the page is final.

    Raises:
        ArgumentError: If the path is a folder, or does not end in ``.html`` or ``.htm``.
        StoreError: If there is no such run, its journal is damaged, or the page cannot be written.
    """
    from nas.reporting.page import render_page
    from nas.reporting.run_view import read_run

    file = check_path(path)
    run = read_run(store, run_id)
    LocalStore(file.parent).write(file.name, render_page(run).encode())
    return run.finished


class ReportPath(str):
    """Path of an HTML page as a string that notebooks display as the page itself."""

    __slots__ = ()

    def _repr_html_(self) -> str:
        page = html.escape(Path(self).read_text())
        return f'<iframe srcdoc="{page}" style="width: 100%; height: 800px; border: 0"></iframe>'


def check_path(path: str | os.PathLike[str]) -> Path:
    """Return the absolute path of a report; raise ArgumentError if it is not an HTML file name."""
    file = Path(path).absolute()
    if file.suffix.lower() not in (".html", ".htm") or file.is_dir():
        raise ArgumentError(
            f"a report is an HTML file such as 'report.html', but got {str(path)!r}"
        )
    return file
