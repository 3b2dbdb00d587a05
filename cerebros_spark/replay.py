"""Command ``python -m cerebros_spark.replay RUN``, which compares replays with the journal."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from cerebros_spark.engine.replay import Replay
from cerebros_spark.runs.journal import locate_run


def main(arguments: Sequence[str] | None = None) -> None:
    """Replay trials and compare them with the journal; exit with status 1 if any trial differs.

    ``arguments`` are the command-line arguments. If None, ``sys.argv[1:]`` is used.
    """
    parser = argparse.ArgumentParser(
        prog="python -m cerebros_spark.replay",
        description="Retrain trials, each alone, and compare them with the journal bit for bit. "
        "Custom layers, losses and metrics must be registered in modules that can be imported "
        "here; for others use Replay(..., custom_objects=...) in Python.",
    )
    parser.add_argument("run", metavar="RUN", help="folder or URL of the run: STORE/runs/NAME")
    parser.add_argument("trials", metavar="TRIAL", nargs="*", help="default: all trials")
    options = parser.parse_args(arguments)
    replay = Replay(*locate_run(options.run))
    is_equal = True
    for name in options.trials or replay.trials:
        comparison = replay.compare(name)
        is_equal = is_equal and comparison.equal
        sys.stdout.write(f"{comparison}\n")
        sys.stdout.flush()
    sys.exit(0 if is_equal else 1)


if __name__ == "__main__":
    main()
