"""Command ``python -m cerebros_spark.journal RUN``, which prints and audits a run's journal."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from cerebros_spark.runs.audit import audit
from cerebros_spark.runs.journal import format_record, journal_key, locate_run, read


def main(arguments: Sequence[str] | None = None) -> None:
    """Print a run's journal and its inconsistencies; exit with status 1 if there are any.

    ``arguments`` are the command-line arguments. If None, ``sys.argv[1:]`` is used.
    """
    parser = argparse.ArgumentParser(
        prog="python -m cerebros_spark.journal", description="Print and audit the journal of a run."
    )
    parser.add_argument("run", metavar="RUN", help="folder or URL of the run: STORE/runs/NAME")
    parser.add_argument("--quiet", action="store_true", help="print only the audit")
    options = parser.parse_args(arguments)
    store, name = locate_run(options.run)
    records = read(store, name)
    if not options.quiet:
        for record in records:
            sys.stdout.write(format_record(record) + "\n")
    faults = audit(records)
    units = sum(record["kind"] == "unit" for record in records)
    trials = sum(record["kind"] == "trial" for record in records)
    for fault in faults:
        sys.stdout.write(f"FAULT {fault}\n")
    verdict = f"{len(faults)} faults" if faults else "no faults"
    address = store.address(journal_key(name))
    sys.stdout.write(f"{address}: {trials} trials, {units} units, {verdict}\n")
    sys.exit(1 if faults else 0)


if __name__ == "__main__":
    main()
