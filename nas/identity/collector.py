"""Collection of an object's custom code, and of everything it refers to, as named parts.

A part is the digest or value of one function, class or value.
"""

from __future__ import annotations

import builtins
import dis
import enum
import functools
import logging
import sys
import types
from collections import Counter, deque
from collections.abc import Mapping
from typing import Any

import keras
import keras_tuner

from nas.identity.bytecode import Changes, Step, list_names, read_steps
from nas.identity.custom_code import find_imported_modules, is_custom, is_followed, is_instance
from nas.identity.inspection import (
    CONTAINERS,
    find_class_changes,
    find_function_changes,
    find_module_changes,
    get_base,
    get_base_name,
    get_exception_handlers,
    get_outer_values,
    get_title,
    hash_text,
    is_constant,
    iterate_functions,
    may_change,
    unwrap_member,
)
from nas.identity.values import CODE, MUTABLE, UNKNOWN, Parts, ValueDescriber, shorten

logger = logging.getLogger(__name__)

# Members that differ between copies of a class, or after edits elsewhere in its file.
_IGNORED = frozenset(
    {
        *("__module__", "__doc__", "__dict__", "__weakref__", "__qualname__", "__slotnames__"),
        *("__firstlineno__", "__static_attributes__", "__annotations__", "__annotate__"),
        *("__annotate_func__", "__annotations_cache__", "__abstractmethods__", "_abc_impl"),
    }
)
_NO_DATA = (types.FunctionType, types.ModuleType, type, staticmethod, classmethod, property)
# Generators and coroutines, ``*args`` and ``**kwargs``.
_FLAGS = 0x04 | 0x08 | 0x20 | 0x80 | 0x200


class Collector(ValueDescriber):
    """Collector of the parts of one root object: its custom code and all that it refers to.

    Args:
        changes: Changes that the root object's code makes; the values that it changes are treated
            as mutable. None if the changes are not known yet.
        digests: Digests of large values by ``id()``, from an earlier pass. None if there was no
            earlier pass.
    """

    def __init__(
        self, changes: Changes | None = None, digests: dict[int, str] | None = None
    ) -> None:
        super().__init__(changes or Changes(), {} if digests is None else digests)
        self._names: dict[tuple[str, int], str] = {}  # of parts, by title and identity
        self._counts: Counter[str] = Counter()  # of parts with the same title
        self._queue: deque[tuple[str, Any]] = deque()
        self._functions: list[types.FunctionType] = []
        self._classes: list[type] = []

    def collect(self, root: Any) -> Parts:
        """Collect the functions, classes and values that a root object consists of or refers to.

        Return the digest or value of each, by name.
        """
        text, is_mutable = self._describe(root, self._describe_root)
        if not is_instance(root, types.FunctionType | type):
            self._parts["arguments"] = MUTABLE + hash_text(text) if is_mutable else shorten(text)
        while self._queue:
            name, value = self._queue.popleft()
            is_class = is_instance(value, type)
            describe = self._describe_class if is_class else self._describe_function
            try:
                text = describe(name, value)
            except Exception as error:
                logger.debug("cannot describe the code of %s: %s", name, error)
                self._parts[name], self._most = UNKNOWN, sys.maxsize
                self._open.clear()
                continue
            self._parts[name] = CODE + hash_text(text)
        return self._parts

    def find_changes(self) -> Changes:
        """Find the changes made by the collected code and by all other code in its modules."""
        total = Changes()
        methods = {id(f) for kind in self._classes for f in iterate_functions(vars(kind))}
        for function in self._functions:
            if id(function) not in methods:
                total.add(find_function_changes(function))
        for kind in self._classes:
            total.add(find_class_changes(kind))
        modules = {id(f.__globals__): f.__globals__ for f in self._functions}
        for module in modules.values():
            other = find_module_changes(module)
            other.elsewhere = other.attributes | {f"class {name}" for name in other.classes}
            other.attributes, other.classes = set(), set()
            total.add(other)
        return total

    def _describe_reference(self, value: Any) -> str:
        """Return the name of a function or class, and queue it if it is custom code."""
        title = get_title(value)
        if not is_custom(value):
            return f"{value.__module__}.{title}"
        if (title, id(value)) not in self._names:
            self._described.append(value)
            self._queue.append((self._name_part(title, id(value)), value))
        return self._names[title, id(value)]

    def _name_part(self, title: str, identity: int) -> str:
        if (title, identity) not in self._names:
            self._counts[title] += 1
            count = self._counts[title]
            self._names[title, identity] = title if count == 1 else f"{title} ({count})"
        return self._names[title, identity]

    def _order_key(self, value: Any) -> str:
        value = value if is_instance(value, types.FunctionType | type) else type(value)
        if not is_custom(value):
            return ""
        if id(value) not in self.digests:
            self.digests[id(value)] = ""  # for references to itself
            self.digests[id(value)] = str(Collector(self._changes, self.digests).collect(value))
        return self.digests[id(value)]

    def _describe_root(self, value: Any) -> str:
        """Describe a root object as text; attributes of a plain custom object become parts."""
        if is_instance(value, types.MethodType):
            return f"{self._describe_root(value.__self__)}.{value.__func__.__name__}"
        kind = type(value)
        custom = is_custom(kind) and not is_instance(value, type | keras.Model | enum.Enum)
        plain = custom and get_base(kind) is None and not hasattr(kind, "get_config")
        if is_instance(value, keras_tuner.HyperModel) or plain:
            self._open[id(value)] = len(self._open)
            return (
                f"{self._describe_reference(kind)}{self._describe_attributes(value, as_parts=True)}"
            )
        return self._to_text(value)

    def _describe_function(self, name: str, function: types.FunctionType) -> str:
        self._functions.append(function)
        code = function.__code__
        names = frozenset(list_names(code))
        cells = dict(zip(code.co_freevars, function.__closure__ or (), strict=True))
        for key, value in sorted(get_outer_values(function).items(), key=lambda pair: pair[0]):
            each = key.removeprefix("cell ")
            if not each.startswith("__"):
                identity = id(function.__globals__ if key == each else cells[each])
                self._collect_value(key, value, names, each, identity)
        for module, imported in find_imported_modules(function):
            self._collect_module(module, imported or names)
        changes = find_function_changes(function)
        parameters = code.co_varnames[: code.co_argcount]
        values = function.__defaults__ or ()
        defaults = dict(zip(parameters[len(parameters) - len(values) :], values, strict=True))
        defaults |= function.__kwdefaults__ or {}
        descriptions = [
            f"{key}={self._describe_argument(key, value, changes, name)}"
            for key, value in defaults.items()
        ]
        return "\n".join([self._describe_code(code), *descriptions])

    def _collect_value(
        self, key: str, value: Any, names: frozenset[str], title: str, identity: int
    ) -> None:
        """Add a part for a value that code refers to as ``key``; ``title`` names the part."""
        if is_instance(value, types.ModuleType):
            if is_followed(value):
                self._collect_module(value, names)
            else:
                self._parts[self._name_part(title, identity)] = f"module {value.__name__}"
            return
        if getattr(builtins, key, self) is value:
            return
        if key in self._changes.names and not is_instance(value, _NO_DATA):
            self._parts[self._name_part(title, identity)] = MUTABLE
            return
        text, is_mutable = self._describe(value)
        if is_instance(value, types.FunctionType | type) and text == title:
            return
        is_mutable = is_mutable or may_change(value, key, self._changes)
        text = MUTABLE + hash_text(text) if is_mutable else shorten(text)
        self._parts[self._name_part(title, identity)] = text

    def _collect_module(self, module: types.ModuleType, names: frozenset[str]) -> None:
        """Add parts for the members of a custom module that are in ``names``."""
        if id(module) in self._open:
            return
        self._open[id(module)] = len(self._open)
        members = vars(module)
        for name in sorted(names & members.keys()):
            if not name.startswith("__"):
                value = members[name]
                is_code = is_instance(value, types.FunctionType | type)
                title = name if is_code else f"{module.__name__}.{name}"
                self._collect_value(name, value, names, title, id(members))
        self._open.pop(id(module))

    def _describe_class(self, name: str, kind: type) -> str:
        """Describe the bases and members of a class as text; its functions become parts."""
        bases = [get_base_name(base) or self._describe_reference(base) for base in kind.__bases__]
        self._classes.append(kind)
        lines = [f"bases {bases}"]
        for member, wrapped in sorted(vars(kind).items(), key=lambda pair: pair[0]):
            if member not in _IGNORED:
                lines += self._describe_member(name, member, wrapped)
        return "\n".join(lines)

    def _describe_member(self, class_name: str, member: str, wrapped: Any) -> list[str]:
        value = unwrap_member(wrapped)
        title = f"{class_name}.{member}"
        if is_instance(value, types.FunctionType) and is_custom(value):
            self._parts[title] = CODE + hash_text(self._describe_function(title, value))
            return [f"{member}: {type(wrapped).__name__}"]
        text, is_mutable = self._describe(value)
        if is_instance(wrapped, (*_NO_DATA, functools.cached_property)):
            return [f"{member}: {text}"]
        is_container = is_instance(value, CONTAINERS)
        changed = self._changes.classes
        if not is_constant(value):
            changed = changed | self._changes.attributes
        is_changed = member in changed
        if is_container and is_changed:
            text = ""
        is_mutable = is_mutable or is_container or is_changed
        is_mutable = is_mutable or f"class {member}" in self._changes.elsewhere
        self._parts[title] = MUTABLE + (text and hash_text(text)) if is_mutable else shorten(text)
        return [] if is_container or is_changed else [member]

    def _describe_code(self, code: types.CodeType) -> str:
        """Describe code as text, one instruction per line."""
        steps, indexes = read_steps(code)
        count = code.co_argcount + code.co_kwonlyargcount
        lines = [
            f"{code.co_argcount} {code.co_posonlyargcount} {code.co_flags & _FLAGS} "
            f"{code.co_varnames[:count]}"
        ]
        lines += [f"{step.opname} {self._describe_operand(step, indexes)}" for step in steps]
        lines.append(str(get_exception_handlers(code, indexes)))
        return "\n".join(lines)

    def _describe_operand(self, step: Step, indexes: Mapping[int, int]) -> str:
        code = step.opcode
        if code in dis.hasconst:
            return self._to_text(step.argval)
        if code in dis.hasjrel or code in dis.hasjabs:
            return str(indexes.get(step.argval))
        is_name = step.arg is not None and (code in dis.hasname or code in dis.hasfree)
        return str(step.argval if is_name else step.arg)
