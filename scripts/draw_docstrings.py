#!/usr/bin/env python3
"""Draw docstrings at random, with their signatures, for a reader to grade.

``python scripts/draw_docstrings.py --count 100 --seed 1`` prints them numbered. The reader marks
each as fine, to polish or to rewrite without having seen the code.
"""

from __future__ import annotations

import argparse
import ast
import random
from collections.abc import Iterator
from pathlib import Path

PACKAGES = ("cerebros_spark", "nas")


def main() -> None:
    """Print the drawn docstrings."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=100, help="%(default)s")
    parser.add_argument("--seed", type=int, default=1, help="%(default)s")
    parser.add_argument(
        "--root", type=Path, default=Path(), help="root of the sources (%(default)s)"
    )
    args = parser.parse_args()
    all_docstrings = [each for path in _modules(args.root) for each in docstrings(path, args.root)]
    drawn = random.Random(args.seed).sample(all_docstrings, min(args.count, len(all_docstrings)))
    for number, (place, signature, text) in enumerate(drawn, 1):
        print(f"--- {number}. {place}\n{signature}\n{text}\n")


def _modules(root: Path) -> list[Path]:
    return sorted(path for name in PACKAGES for path in (root / name).rglob("*.py"))


def docstrings(path: Path, root: Path) -> Iterator[tuple[str, str, str]]:
    """Yield place, signature and text of each docstring in a module."""
    source = path.read_text()
    place = str(path.relative_to(root))
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        text = ast.get_docstring(node)
        if text is None:
            continue
        if isinstance(node, ast.Module):
            yield place, "module", text
            continue
        head = " ".join(source.splitlines()[node.lineno - 1 : node.body[0].lineno - 1])
        yield f"{place}:{node.lineno}", " ".join(head.split()), text


if __name__ == "__main__":
    main()
