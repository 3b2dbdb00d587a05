"""Detection of custom code: functions, classes and modules, and the modules they import."""

from __future__ import annotations

import contextlib
import importlib.util
import sys
import sysconfig
import types
from collections.abc import Iterator
from typing import Any

from cerebros_spark.core.pickling import is_user_module
from nas.identity.bytecode import list_imports

_PACKAGES = ("nas", "cerebros_spark")  # checkouts of these are not custom


def is_instance(value: Any, kinds: Any) -> bool:
    """Return ``isinstance(value, kinds)`` without reading ``__class__``, which may run code."""
    return issubclass(type(value), kinds)


def is_custom(value: Any) -> bool:
    """Return whether a function, class or module is custom code, not an installed package's."""
    name = value.__name__ if is_instance(value, types.ModuleType) else value.__module__
    if not isinstance(name, str):
        return True  # from exec()
    return name.partition(".")[0] not in _PACKAGES and is_user_module(name)


def is_followed(module: types.ModuleType) -> bool:
    """Return whether a module is custom code, or a namespace package that may contain such code."""
    namespace = getattr(module, "__file__", None) is None and hasattr(module, "__path__")
    return namespace or is_custom(module)


def find_imported_modules(
    function: types.FunctionType,
) -> Iterator[tuple[types.ModuleType, frozenset[str]]]:
    """Yield the custom modules that a function imports, each with the names imported from it."""
    package = function.__globals__.get("__package__")
    for name, names in list_imports(function.__code__):
        try:
            module = _import_custom(importlib.util.resolve_name(name, package))
            for each in names - vars(module).keys():
                with contextlib.suppress(ImportError):
                    _import_custom(f"{module.__name__}.{each}")
        except Exception:  # the function cannot import it either
            continue
        members: list[Any] = [vars(module).get(each) for each in names] or [
            sys.modules[name.partition(".")[0]]
        ]
        modules = [each for each in members if is_instance(each, types.ModuleType)]
        used = [(module, names), *((each, frozenset[str]()) for each in modules)]
        yield from (pair for pair in used if is_followed(pair[0]))


def _import_custom(name: str) -> types.ModuleType:
    """Import a custom module; raise ImportError for an installed one that is not yet imported."""
    if name not in sys.modules:
        spec = importlib.util.find_spec(name.partition(".")[0])
        place = str(spec and (spec.origin or spec.submodule_search_locations))
        stdlib = sysconfig.get_path("stdlib")
        if "-packages" in place or stdlib in place or place in ("None", "built-in", "frozen"):
            raise ImportError(f"{name} is installed")
        importlib.import_module(name)
    return sys.modules[name]
