"""A run as one HTML page: leaderboard, charts, the workers' timeline and the best network.

The page is made from the journal and specs in the store alone, so it also shows a run that is in
progress or was stopped. It is a single file that fetches nothing.
``python -m nas.reporting RUN report.html`` writes it.
"""

from __future__ import annotations

import os
from pathlib import Path

from cerebros_spark.core.errors import ArgumentError
from cerebros_spark.storage.local import LocalStore
from cerebros_spark.storage.store import Store


def write_report(store: Store, run_id: str, path: str | os.PathLike[str]) -> bool:
    """Writes the page of a run; an older one is replaced at once, so readers see a whole page.

    Args:
        store: Where the run lies.
        run_id: The run: its ``project_name``.
        path: The HTML file. Its folder is made if need be.

    Returns:
        Whether the run is over, so that the page will not change any more.

    Raises:
        ArgumentError: The path is a folder, or its name does not end in ``.html``.
        StoreError: There is no such run, its journal is damaged, or the page can't be written.
    """
    from nas.reporting.page import page_of
    from nas.reporting.run_view import read_run

    place = check_path(path)
    run = read_run(store, run_id)
    LocalStore(place.parent).write(place.name, page_of(run).encode())
    return run.over


def check_path(path: str | os.PathLike[str]) -> Path:
    """Where a page goes, as an absolute path; raises ArgumentError if no page can go there."""
    place = Path(path).absolute()
    if place.suffix.lower() not in (".html", ".htm") or place.is_dir():
        raise ArgumentError(
            f"a report is an HTML file such as 'report.html', but got {str(path)!r}"
        )
    return place
