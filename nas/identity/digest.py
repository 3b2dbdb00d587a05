"""Digests of custom code, and their comparison between a run's sessions.

A resumed run must use the code that it started with. A digest covers bytecode and the values
that it refers to: defaults, closures, constants and helper functions of the same project. Comments,
line numbers, docstrings, names of local variables and file locations are ignored. Code of installed
packages is identified by module and name.

Values that custom code itself modifies, such as caches and counters, are ignored. Values that may
change in other ways are compared, but a difference only causes a warning.

A root is an object that the user passes. Its parts are the functions, classes and values of its
code, by name.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import keras_tuner

from nas.identity.collector import Collector
from nas.identity.custom_code import is_instance
from nas.identity.values import CODE, MUTABLE, UNKNOWN, Parts

logger = logging.getLogger(__name__)

_MOST_SHOWN = 3  # maximum number of differences in an error
#: Version of the digest format; increase it when unchanged code gets different digests.
VERSION = 3
# Bytecode differs between versions of Python.
PYTHON = f"{sys.version_info.major}.{sys.version_info.minor}"


def describe_code(roots: Mapping[str, Any]) -> dict[str, Any]:
    """Describe the custom code of objects by digests, in JSON-compatible types.

    Args:
        roots: Functions, classes, objects, or lists of these, by the name to use in messages.

    Returns:
        A dict with an item for each root that has custom code: the root's parts by name, or None if
        they cannot be determined. Two more items, ``python`` and ``version``, are the versions of
        Python and of the digest format.
    """
    described: dict[str, Any] = {}
    for name, root in roots.items():
        try:
            first = Collector()
            first.collect(root)  # all code must be known to determine which values are mutable
            parts = Collector(first.find_changes(), first.digests).collect(root)
        except Exception as error:  # rare: errors of single values are caught earlier
            logger.warning("cannot compare %s when the run is resumed: %s", name, error)
            described[name] = None
            continue
        custom = any(value.startswith(CODE) for value in parts.values())
        if custom or is_instance(root, keras_tuner.HyperModel):
            described[name] = parts
    return {"python": PYTHON, "version": VERSION, **described}


def find_differences(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """Return the differences between two results of :func:`describe_code`, as readable strings.

    The list is empty if there are none. Custom objects that only one result contains are ignored,
    because the networks of the other session do not need them. Roots that are None in either result
    are also ignored.
    """
    differences = []
    for root, old, new in _pair_roots(before, now):
        differences += _compare_root(root, old, new)
    return differences


def find_changed_values(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """Return the names of values that differ, perhaps because the run itself changed them.

    Values that cannot be described, and values that only one result of :func:`describe_code`
    contains, are included.
    """
    names = []
    for _, old, new in _pair_roots(before, now):
        for name in [*old, *(each for each in new if each not in old)]:
            values = [parts[name] for parts in (old, new) if name in parts]
            differ = len(set(values)) > 1 and _is_mutable(*values) and MUTABLE not in values
            alone = len(values) == 1 and not _is_mutable(*values)
            if differ or alone or UNKNOWN in values:
                names.append(name)
    return names


def are_values(differences: Sequence[str]) -> bool:
    """Return whether all differences concern values rather than code."""
    return all(", and now it is " in each for each in differences)


def format_differences(differences: Sequence[str]) -> str:
    """Format the first three differences and the number of further ones as one line."""
    rest = len(differences) - _MOST_SHOWN
    return "; ".join(differences[:_MOST_SHOWN]) + (f" and {rest} more" if rest > 0 else "")


def _pair_roots(
    before: Mapping[str, Any], now: Mapping[str, Any]
) -> Iterator[tuple[str, Parts, Parts]]:
    for root in sorted({*before, *now} - {"python", "version"}):
        if root.startswith("custom_objects") and not (root in before and root in now):
            continue
        old, new = before.get(root, {}), now.get(root, {})
        if old is not None and new is not None:
            yield root, old, new


def _is_mutable(*values: str) -> bool:
    return any(value.startswith(MUTABLE) for value in values)


def _compare_root(root: str, before: Parts, now: Parts) -> list[str]:
    """Compare the code of two results under ``root``, and return descriptions of the differences.

    Parts that both results recorded are compared first. If these are equal, the functions and
    classes that only one result recorded are returned if each result has some, or if one result has
    no parts at all. Otherwise, they are ignored: equal code refers to the same names, so it cannot
    use a function or class that was added or removed.
    """
    changed = [
        _format_difference(root, name, before[name], now[name])
        for name in before
        if name in now and before[name] != now[name] and not _is_mutable(before[name], now[name])
    ]
    if changed:
        return changed
    gone = [n for n in before if n not in now and before[n].startswith(CODE)]
    new = [n for n in now if n not in before and now[n].startswith(CODE)]
    if before and now and not (gone and new):
        return []
    unused = [f"{name} ({root}), which is not used now" for name in gone]
    return unused + [f"code without {name} ({root})" for name in new]


def _format_difference(root: str, name: str, before: str, now: str) -> str:
    if before.startswith(CODE) or now.startswith(CODE):
        return f"other code of {name}" + (f" ({root})" if root != name else "")
    return f"{name} = {before}, and now it is {now} ({root})"
