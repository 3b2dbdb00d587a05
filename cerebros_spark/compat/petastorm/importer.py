"""Import hook that replaces names of other modules for the modules of one package only.

The package's modules get a custom ``__import__``. Instead of a module whose names are replaced, it
returns a *view*: a proxy module with the replacements. Other code is unaffected, even while the
package is being imported.
"""

from __future__ import annotations

import builtins
import importlib.abc
import importlib.machinery
import sys
from collections.abc import Callable, Mapping, Sequence
from types import ModuleType
from typing import Any


class ModuleView(ModuleType):
    """Proxy for a module, in which some names are replaced or added.

    Args:
        name: Name of the module.
        replacements: Values of the replaced or added names.
        module: The module that provides all other names. If None, there are no other names.
    """

    def __init__(
        self, name: str, replacements: Mapping[str, Any], module: ModuleType | None = None
    ) -> None:
        super().__init__(name)
        self._viewed = module
        self.__dict__.update(replacements)

    def __getattr__(self, name: str) -> Any:
        if self._viewed is None:
            raise AttributeError(f"module {self.__name__!r} has no attribute {name!r}")
        return getattr(self._viewed, name)

    def load(self, names: Sequence[str]) -> None:
        """Import those of the names that are submodules, so that they become attributes."""
        if self._viewed is not None:
            builtins.__import__(self.__name__, None, None, names)


class ViewImporter(importlib.abc.MetaPathFinder):
    """Importer that makes the modules of one package import views of other modules.

    On ``sys.meta_path``, it handles only this package, whose modules it locates with the other
    finders.

    Args:
        package: Name of the package.
        views: The views by module name. A view of ``a.b`` requires a view of ``a``.
        amendments: Functions by module name, called with that module of the package after its code
            has run.
    """

    def __init__(
        self,
        package: str,
        views: Mapping[str, ModuleView],
        amendments: Mapping[str, Callable[[ModuleType], None]],
    ) -> None:
        self._package = package
        self._views = views
        self._amendments = amendments
        self._builtins = {**vars(builtins), "__import__": self._import}

    def find_spec(
        self, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        """Return another finder's spec if ``fullname`` is in the package; otherwise return None."""
        if fullname.partition(".")[0] != self._package:
            return None
        others = [finder for finder in sys.meta_path if finder is not self]
        specs = (finder.find_spec(fullname, path, target) for finder in others)
        spec = next((spec for spec in specs if spec is not None), None)
        if spec is not None and spec.loader is not None:
            spec.loader = _ViewLoader(spec.loader, self)
        return spec

    def prepare(self, module: ModuleType) -> None:
        """Make a module of the package import the views; called before the module's code runs."""
        module.__dict__["__builtins__"] = self._builtins

    def amend(self, module: ModuleType) -> None:
        """Call the amendment for a module of the package, if any; called after its code has run."""
        amendment = self._amendments.get(module.__name__)
        if amendment is not None:
            amendment(module)

    def _import(
        self,
        name: str,
        globals: Mapping[str, Any] | None = None,
        locals: Mapping[str, Any] | None = None,
        fromlist: Sequence[str] | None = (),
        level: int = 0,
    ) -> ModuleType:
        view = self._views.get(name) if level == 0 else None
        if view is not None and fromlist:
            view.load([each for each in fromlist if each not in vars(view)])
            return view
        if view is not None:
            return self._views[name.partition(".")[0]]
        module = builtins.__import__(name, globals, locals, fromlist or (), level)
        if level == 0 and not fromlist:
            return self._views.get(module.__name__, module)
        return module


class _ViewLoader(importlib.abc.Loader):
    """Wrapper of another loader, whose modules import the views of ``importer``."""

    def __init__(self, loader: Any, importer: ViewImporter) -> None:
        self._loader = loader
        self._importer = importer

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> ModuleType | None:
        module: ModuleType | None = self._loader.create_module(spec)
        return module

    def exec_module(self, module: ModuleType) -> None:
        self._importer.prepare(module)
        self._loader.exec_module(module)
        self._importer.amend(module)

    def __getattr__(self, name: str) -> Any:
        # Sources, data files and the like. A copy of this object has no attributes at first.
        if name in ("_loader", "_importer"):
            raise AttributeError(name)
        return getattr(self._loader, name)
