#!/usr/bin/env python3
"""Count files, lines, import cycles and what passes through them.

Run in the root of any commit: ``python scripts/benchmarks/structure.py [--root FOLDER]``. It reads
the sources and imports none of them.
"""

from __future__ import annotations

import argparse
import ast
import collections
import statistics
import sys
from collections.abc import Iterator
from pathlib import Path

import networkx

# The parent folder has the modules that all scripts share.
sys.path.insert(0, str(Path(__file__).parents[1]))

import _common

PACKAGES = ("cerebros_spark", "nas")
NAMED_TUPLE = {"_asdict", "_fields", "_make", "_replace"}
STATE = {"state", "states", "state_ref", "state_refs", "state_bytes", "StateRef"}


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--root", type=Path, default=Path(), help="root of the sources (%(default)s)"
    )
    parser.add_argument("--json", metavar="FILE", help="also write the figures to FILE")
    args = parser.parse_args()
    _common.show("structure", figures(args.root), args.json)


def figures(root: Path) -> list[tuple[str, int | float, str]]:
    """Return the rows of the table."""
    sources = {path: path.read_text() for path in modules(root)}
    trees = {_name(path, root): ast.parse(text) for path, text in sources.items()}
    lines = [text.count("\n") for text in sources.values()]
    graph = networkx.DiGraph()
    graph.add_nodes_from(trees)
    for name, tree in trees.items():
        graph.add_edges_from((name, other) for other in imports(tree, set(trees)) if other != name)
    packages = {name for name in trees if any(each.startswith(f"{name}.") for each in trees)}
    single = [name for name in trees if graph.in_degree(name) == 1 and name not in packages]
    circles = [part for part in networkx.strongly_connected_components(graph) if len(part) > 1]
    tops = collections.Counter(name.split(".")[0] for name in trees if name.count(".") == 1)
    private = sum(
        count for name, count in private_uses(trees).items() if ".compat." not in f".{name}."
    )
    return [
        ("files", len(lines), ""),
        ("lines", sum(lines), ""),
        ("mean lines of a file", statistics.mean(lines), ""),
        ("files with one importer", len(single), ""),
        *((f"modules and folders directly in {name}", tops[name], "") for name in PACKAGES),
        ("circles of imports", len(circles), ""),
        ("private attributes of other libraries outside compat", private, ""),
        ("files that pass on `epochs`", _naming(trees, {"epochs"}), ""),
        (
            "files that pass on a trial's state",
            _naming(
                trees, {"state", "states", "state_ref", "state_refs", "state_bytes", "StateRef"}
            ),
            "",
        ),
    ]


def modules(root: Path) -> list[Path]:
    """Return the product's files."""
    return sorted(path for name in PACKAGES for path in (root / name).rglob("*.py"))


def _name(path: Path, root: Path) -> str:
    name = ".".join(path.relative_to(root).with_suffix("").parts)
    return name.removesuffix(".__init__")


def imports(tree: ast.AST, known: set[str]) -> Iterator[str]:
    """Yield the product's modules that a module imports; those for type checkers do not count."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test):
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name in known)
        elif isinstance(node, ast.ImportFrom) and node.module:
            for alias in node.names:
                full = f"{node.module}.{alias.name}"
                if full in known or node.module in known:
                    yield full if full in known else node.module
        else:
            yield from imports(node, known)


def private_uses(trees: dict[str, ast.Module]) -> dict[str, int]:
    """Count the private attributes in each module that the product does not define itself."""
    own = {"_"}
    for node in _nodes(trees):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            own.add(node.name)
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            own.add(node.id)
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
            own.add(node.attr)
    found: dict[str, int] = {}
    for name, tree in trees.items():
        found[name] = sum(
            isinstance(node, ast.Attribute)
            and node.attr.startswith("_")
            and not node.attr.startswith("__")
            and node.attr not in own
            and node.attr not in NAMED_TUPLE
            and not node.attr.endswith("_")  # documented names of enum
            and not (isinstance(node.value, ast.Name) and node.value.id in ("self", "cls"))
            for node in ast.walk(tree)
        )
    return found


def _naming(trees: dict[str, ast.Module], names: set[str]) -> int:
    """Count the files in which a parameter, argument, variable or attribute has such a name."""
    return sum(any(_names(node) & names for node in ast.walk(tree)) for tree in trees.values())


def _names(node: ast.AST) -> set[str]:
    if isinstance(node, ast.Name):
        return {node.id}
    if isinstance(node, ast.Attribute):
        return {node.attr}
    if isinstance(node, ast.arg | ast.keyword):
        return {node.arg or ""}
    return set()


def _nodes(trees: dict[str, ast.Module]) -> Iterator[ast.AST]:
    for tree in trees.values():
        yield from ast.walk(tree)


if __name__ == "__main__":
    main()
