#!/usr/bin/env python3
"""Checks the documents: links, paths, names, options of scripts; runs their blocks and examples.

Blocks of Python and shell in README and docs are run in the order they stand, those of a document
in one empty folder. Searches are cut to one trial of one epoch. A comment above a block says what
it takes for granted, as Python (`<!-- given: df = ... -->`), or why it is not run
(`<!-- not run: reason -->`).
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

sys.path.insert(0, os.path.dirname(__file__))

from _documents import ROOT, Document, documents, faults, scripts_named


def main(arguments: Sequence[str] | None = None) -> int:
    """Checks; gives the number of faults, 1 at most."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="look only, run nothing")
    parser.add_argument("paths", nargs="*", type=Path, metavar="PATH",
                        help="documents and examples; all of them by default")  # fmt: skip
    args = parser.parse_args(arguments)
    given = [path for path in args.paths if path.suffix == ".md"]
    examples = [path for path in args.paths if path.suffix == ".py"]
    read = documents(given) if given or not args.paths else []
    if not args.paths:
        examples = sorted((ROOT / "examples").glob("*.py"))
    wrong = [fault for document in read for fault in faults(document)]
    wrong += option_faults(read)
    for fault in wrong:
        print(f"FAULT {fault}")
    print(f"{len(read)} documents: links, paths, names and options looked at")
    if not args.quick:
        wrong += _run(read, examples)
    print(f"{len(wrong)} faults")
    return 1 if wrong else 0


def option_faults(read: Sequence[Document]) -> Iterator[str]:
    """Options of scripts that their --help does not tell."""
    helps: dict[Path, str] = {}
    for document in read:
        for place, script, options in scripts_named(document):
            if not (ROOT / script).exists():
                yield f"{place}: there is no {script}"
                continue
            path = (ROOT / script).with_suffix(".py")
            if not path.exists() or not options:
                continue  # a shell script without options of its own
            if path not in helps:
                helps[path] = help_of(path)
            for option in options:
                if option not in helps[path]:
                    yield f"{place}: {script} has no option {option}"


def help_of(script: Path) -> str:
    """All that a script and its sub-commands say of themselves; raises CalledProcessError."""

    def asked(*words: str) -> str:
        command = [sys.executable, str(script), *words, "--help"]
        path = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
        variables = {**os.environ, "PYTHONPATH": path}
        return subprocess.run(
            command, capture_output=True, text=True, check=True, env=variables
        ).stdout

    told = asked()
    if script.name == "cluster.py":
        told += "".join(asked(word) for word in ("start", "status", "stop"))
    return told


def _run(read: Sequence[Document], examples: Sequence[Path]) -> list[str]:
    import _common

    _common.prepare_environment()
    spark = _common.session()  # which all documents find, quick to start jobs
    from _doc_runs import run_document, run_example

    wrong = []
    for document in read:
        for block, fault, seconds in run_document(document):
            told = f"not run: {block.reason}" if block.reason else f"run, {seconds:.0f} s"
            print(f"{block.place}: {block.language}: {'FAULT' if fault else told}", flush=True)
            if fault:
                print(fault)
                wrong.append(block.place)
    for example in examples:
        fault = run_example(example.resolve())
        print(f"{example}: {'FAULT' if fault else 'run'}\n{fault}", flush=True)
        wrong += [str(example)] if fault else []
    spark.stop()
    return wrong


if __name__ == "__main__":
    sys.exit(main())
