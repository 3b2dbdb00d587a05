"""Command ``python -m nas.reporting RUN report.html``, which writes a run's HTML page."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from time import sleep

from cerebros_spark.runs.journal import locate_run
from cerebros_spark.training.keras.tensorflow_runtime import load_tensorflow
from nas.reporting import check_path, write_report


def main(arguments: Sequence[str] | None = None) -> None:
    """Write a run's HTML page; with ``--every``, update it until the run is finished.

    ``arguments`` are the command line arguments. If None, those of the process are used.
    """
    parser = argparse.ArgumentParser(
        prog="python -m nas.reporting", description="Write a run as one HTML page."
    )
    parser.add_argument("run", metavar="RUN", help="folder or URL of the run: STORE/runs/NAME")
    parser.add_argument("page", metavar="PAGE", help="the HTML file, for example report.html")
    parser.add_argument(
        "--every",
        type=float,
        metavar="SECONDS",
        help="update the page at this interval until the run is finished",
    )
    args = parser.parse_args(arguments)
    if args.every is not None and not args.every > 0:
        parser.error(f"--every must be more than 0 seconds, but got {args.every}")
    check_path(args.page)
    store, name = locate_run(args.run)
    load_tensorflow(owns_process=True)
    finished = write_report(store, name, args.page)
    while args.every is not None and not finished:
        sleep(args.every)
        finished = write_report(store, name, args.page)
    status = "finished" if finished else "not finished"
    sys.stdout.write(f"{args.page}: the run {name!r} is {status}\n")


if __name__ == "__main__":
    main()
