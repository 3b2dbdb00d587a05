#!/usr/bin/env python3
"""Check the documents: links, paths, names and options of scripts; run blocks and examples.

Blocks of Python and shell in README and docs run in order, those of a document in one empty
folder. Searches are cut to one trial of one epoch. A comment above a block sets up what it uses,
as Python (`<!-- given: df = ... -->`), or says why it is not run (`<!-- not run: reason -->`).
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
    """Check documents and examples; return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="check names and links, run nothing")
    parser.add_argument("paths", nargs="*", type=Path, metavar="PATH",
                        help="documents and examples; default: all")  # fmt: skip
    args = parser.parse_args(arguments)
    documents_given = [path for path in args.paths if path.suffix == ".md"]
    examples = [path for path in args.paths if path.suffix == ".py"]
    read = documents(documents_given) if documents_given or not args.paths else []
    if not args.paths:
        examples = sorted((ROOT / "examples").glob("*.py"))
    all_faults = [fault for document in read for fault in faults(document)]
    all_faults += option_faults(read)
    for fault in all_faults:
        print(f"FAULT {fault}")
    print(f"{len(read)} documents: checked links, paths, names and options")
    if not args.quick:
        all_faults += _run(read, examples)
    print(f"{len(all_faults)} faults")
    return 1 if all_faults else 0


def option_faults(read: Sequence[Document]) -> Iterator[str]:
    """Yield options of scripts that their --help does not list."""
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
    """Return the help of a script and its subcommands.

    Raises:
        CalledProcessError: If the script fails.
    """

    def help_text(*words: str) -> str:
        command = [sys.executable, str(script), *words, "--help"]
        path = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
        variables = {**os.environ, "PYTHONPATH": path}
        return subprocess.run(
            command, capture_output=True, text=True, check=True, env=variables
        ).stdout

    text = help_text()
    if script.name == "cluster.py":
        text += "".join(help_text(word) for word in ("start", "status", "stop"))
    return text


def _run(read: Sequence[Document], examples: Sequence[Path]) -> list[str]:
    import _common

    _common.prepare_environment()
    spark = _common.session()  # all documents use this session; its jobs start quickly
    from _doc_runs import run_document, run_example

    all_faults = []
    for document in read:
        for block, fault, seconds in run_document(document):
            text = f"not run: {block.reason}" if block.reason else f"run, {seconds:.0f} s"
            print(f"{block.place}: {block.language}: {'FAULT' if fault else text}", flush=True)
            if fault:
                print(fault)
                all_faults.append(block.place)
    for example in examples:
        fault = run_example(example.resolve())
        print(f"{example}: {'FAULT' if fault else 'run'}\n{fault}", flush=True)
        all_faults += [str(example)] if fault else []
    spark.stop()
    return all_faults


if __name__ == "__main__":
    sys.exit(main())
