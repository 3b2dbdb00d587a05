"""What identifies custom code: a digest of what functions and classes compute.

A resumed run must be trained by the code it began with. The digests are made of bytecode, with the
values that it refers to: defaults, closures, constants and helper functions of the same project.
Comments, line numbers, docstrings, the names of local variables and the place of a file don't
count. Code of installed packages is identified by its name alone.

Values that custom code changes, such as caches and counters, are state and don't count. Objects
that something else may change are compared, but only warned of.
"""

from __future__ import annotations

import argparse
import builtins
import dataclasses
import datetime
import decimal
import dis
import enum
import fractions
import functools
import hashlib
import logging
import os
import re
import sys
import time
import types
import uuid
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import keras
import keras_tuner
import numpy as np
import pandas as pd

from cerebros_spark.core.pickling import is_own_module
from cerebros_spark.training.keras.object_config import serialize
from nas.identity.bytecode import Changes, all_names, changes_of, global_names, reached
from nas.spaces.fixed_model import digest, without_names

_PACKAGES = ("nas", "cerebros_spark")  # where they are no installed packages, but checked out

logger = logging.getLogger("nas")

Parts = dict[str, str]
"""By name of a function, a class or a constant, its digest or its value."""

_LONGEST = 60  # characters of a value that is recorded as it is
_SHOWN = 3  # parts that an error names
_CODE = "code "
_STATE = "state "  # a value that is not refused; without a digest where code is known to change it
#: Counts up when the same code gets other digests.
VERSION = 2
# Bytecode differs from one version of Python to the next.
PYTHON = f"{sys.version_info.major}.{sys.version_info.minor}"
# What changes with a copy of a class, or when its file is edited elsewhere.
_NOT_COMPARED = frozenset(
    {
        *("__module__", "__doc__", "__dict__", "__weakref__", "__qualname__", "__slotnames__"),
        *("__firstlineno__", "__static_attributes__", "__annotations__", "__annotate__"),
        *("__annotate_func__", "__annotations_cache__", "__abstractmethods__", "_abc_impl"),
    }
)
_PLAIN = frozenset({bool, int, float, complex, str, bytes, type(None)})
_MANY = 1000  # plain values that are described at once
_DAY = 86_400.0
_DEEPEST = 90  # objects in one another, so that Python's limit of calls is not reached
_CONTAINERS = (list, dict, set, deque, types.MappingProxyType, np.ndarray)
_WRITTEN = (
    *(range, slice, decimal.Decimal, fractions.Fraction, uuid.UUID, datetime.date),
    *(datetime.time, datetime.timedelta, datetime.timezone, np.dtype),
)
_SESSIONS = ("pyspark", "py4j")
_NO_DATA = (types.FunctionType, types.ModuleType, type, staticmethod, classmethod, property)
# Generators and coroutines, ``*args`` and ``**kwargs``.
_FLAGS = 0x04 | 0x08 | 0x20 | 0x80 | 0x200


def describe_code(roots: Mapping[str, Any]) -> dict[str, Any]:
    """Return the digests of all custom code in some objects, as JSON.

    Args:
        roots: By a name for the user, a function, a class, an object, or a list of these.

    Returns:
        For each root that holds custom code its parts, and the version of Python.
    """
    found: dict[str, Any] = {}
    for name, root in roots.items():
        try:
            first = _Collector()
            first.parts(root)  # to see all code before it is decided what is state
            parts = _Collector(first.changes(), first.digests).parts(root)
        except Exception as error:  # values are caught one by one, so this is rare
            logger.warning("cannot compare %s when the run is resumed: %s", name, error)
            found[name] = None
            continue
        custom = any(value.startswith(_CODE) for value in parts.values())
        if custom or isinstance(root, keras_tuner.HyperModel):
            found[name] = parts
    return {"python": PYTHON, "version": VERSION, **found}


def differences(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """Return what differs between two results of :func:`describe_code`, in words.

    Custom objects that only one of them has don't count: the networks of the other did without.
    Nor do roots that could not be described on one side.
    """
    found = []
    for root, parts, others in _compared(before, now):
        found += _different(root, parts, others)
    return found


def changed_state(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """Return the names of values that differ, but may have been changed by a run itself."""
    return [
        name
        for _, parts, others in _compared(before, now)
        for name in parts
        if name in others
        and parts[name] != others[name]
        and _is_state(parts[name], others[name])
        and _STATE not in (parts[name], others[name])
    ]


def only_values(found: Sequence[str]) -> bool:
    """Whether all differences are values, not code."""
    return all(", and now it is " in each for each in found)


def shown(found: Sequence[str]) -> str:
    """Differences in one line, the first few of them."""
    more = f" and {len(found) - _SHOWN} more" if len(found) > _SHOWN else ""
    return "; ".join(found[:_SHOWN]) + more


def _compared(
    before: Mapping[str, Any], now: Mapping[str, Any]
) -> Iterator[tuple[str, Parts, Parts]]:
    for root in sorted({*before, *now} - {"python", "version"}):
        if root.startswith("custom_objects") and not (root in before and root in now):
            continue
        parts, others = before.get(root, {}), now.get(root, {})
        if parts is not None and others is not None:
            yield root, parts, others


def _is_state(*values: str) -> bool:
    return any(value.startswith(_STATE) for value in values)


def _different(root: str, before: Parts, now: Parts) -> list[str]:
    """The parts of one root that differ; those that only one has count if no other does."""
    changed = [
        _in_words(root, name, before[name], now[name])
        for name in before
        if name in now and before[name] != now[name] and not _is_state(before[name], now[name])
    ]
    if changed:
        return changed
    gone = [n for n in before if n not in now and not _is_state(before[n])]
    new = [n for n in now if n not in before and not _is_state(now[n])]
    without = [f"{name} ({root}), which is not used now" for name in gone]
    return without + [f"code without {name} ({root})" for name in new]


def _in_words(root: str, name: str, before: str, now: str) -> str:
    if before.startswith(_CODE) or now.startswith(_CODE):
        return f"other code of {name}" + (f" ({root})" if root != name else "")
    return f"{name} = {before}, and now it is {now} ({root})"


def is_own(value: Any) -> bool:
    """Whether a function, a class or a module is custom code, of no installed package."""
    name = value.__name__ if isinstance(value, types.ModuleType) else value.__module__
    if not isinstance(name, str):
        return True  # made by exec()
    return name.partition(".")[0] not in _PACKAGES and is_own_module(name)


class _Collector:
    """Collects the parts of one root: its own code, and what that refers to."""

    def __init__(
        self, changes: Changes | None = None, digests: dict[int, str] | None = None
    ) -> None:
        self._changes = changes or Changes()
        self.digests = {} if digests is None else digests  # of large values, by identity
        self._found: Parts = {}
        self._names: dict[int, str] = {}  # of functions and classes, by identity
        self._known: list[Any] = []  # so that no identity is used twice
        self._queue: deque[tuple[str, Any]] = deque()
        self._open: dict[int, int] = {}  # containers and objects being described
        self._texts: dict[int, tuple[str, bool]] = {}  # of those that are described
        self._is_state = False  # whether what is being described may change by itself
        self._functions: list[types.FunctionType] = []
        self._classes: list[type] = []

    def parts(self, root: Any) -> Parts:
        """The parts, by name."""
        text, state = self._described(root, self._root)
        if not isinstance(root, types.FunctionType | type):
            self._found["arguments"] = _STATE + _hash(text) if state else _short(text)
        while self._queue:
            name, value = self._queue.popleft()
            describe = self._class if isinstance(value, type) else self._function
            try:
                text = describe(name, value)
            except Exception as error:
                logger.debug("cannot describe the code of %s: %s", name, error)
                text = name
            self._found[name] = _CODE + _hash(text)
        return self._found

    def changes(self) -> Changes:
        """What the code of all parts changes, and the other code of the modules they are of."""
        found = Changes()
        methods = {id(f) for kind in self._classes for f in _functions(vars(kind))}
        for function in self._functions:
            if id(function) not in methods:
                found.add(_changes_in(function))
        for kind in self._classes:
            found.add(_changes_in_class(kind))
        modules = {id(f.__globals__): f.__globals__ for f in self._functions}
        for known in modules.values():
            other = _changes_in_module(known)
            other.elsewhere, other.attributes = other.attributes, set()
            found.add(other)
        return found

    # Functions and classes ---------------------------------------------------------------

    def _reference(self, value: Any) -> str:
        """A function or class by its name; custom code is collected."""
        title = _title(value)
        if not is_own(value):
            return f"{value.__module__.partition('.')[0]}.{title}"
        if id(value) not in self._names:
            name, count = title, 1
            while name in self._found or name in self._names.values():
                count += 1
                name = f"{title} ({count})"
            self._names[id(value)] = name
            self._known.append(value)
            self._queue.append((name, value))
        return self._names[id(value)]

    def _function(self, name: str, function: types.FunctionType) -> str:
        self._functions.append(function)
        code = function.__code__
        used = _outer_values(function)
        changed = _changes_in(function)
        for each, value in sorted(used.items()):
            if not each.startswith("__"):
                self._refer(each, value, code)
        names = code.co_varnames[: code.co_argcount]
        defaults = function.__defaults__ or ()
        given = dict(zip(names[len(names) - len(defaults) :], defaults, strict=True))
        given |= function.__kwdefaults__ or {}
        texts = [f"{n}={self._argument_text(n, v, changed)}" for n, v in given.items()]
        return "\n".join([self._code(code), *texts])

    def _argument_text(self, name: str, value: Any, changed: Changes) -> str:
        """An argument of a function, by its type alone where the function may change it."""
        local = f"local {name}"
        if isinstance(value, _CONTAINERS) and local in changed.names | changed.shared:
            return type(value).__name__
        text, state = self._described(value)
        return type(value).__name__ if state else text

    def _refer(self, name: str, value: Any, code: types.CodeType, key: str = "") -> None:
        """Collects a value that code refers to by a name."""
        if isinstance(value, types.ModuleType):
            if is_own(value):
                self._module(value, code)
            return
        if getattr(builtins, name, self) is value:
            return
        if name in self._changes.names and not isinstance(value, _NO_DATA):
            self._found[self._free(key or name, _STATE)] = _STATE
            return
        text, state = self._described(value)
        if isinstance(value, types.FunctionType | type) and text == name:
            return
        state = state or _may_change(value, name, self._changes)
        text = _STATE + _hash(text) if state else _short(text)
        self._found[self._free(key or name, text)] = text

    def _free(self, name: str, text: str) -> str:
        """The name of a part, with a number where another part has it."""
        key, count = name, 1
        while self._found.get(key, text) != text or key in self._names.values():
            count += 1
            key = f"{name} ({count})"
        return key

    def _module(self, module: types.ModuleType, code: types.CodeType) -> None:
        """Collects what code may use of a custom module: whatever has a name that it mentions."""
        if id(module) in self._open:
            return
        self._open[id(module)] = len(self._open)
        held = vars(module)
        for name in sorted(all_names(code) & held.keys()):
            if not name.startswith("__"):
                value = held[name]
                code_alone = isinstance(value, types.FunctionType | type)
                title = name if code_alone else f"{module.__name__}.{name}"
                self._refer(name, value, code, title)
        self._open.pop(id(module))

    def _class(self, name: str, kind: type) -> str:
        """A class: its bases, and its members, of which functions are parts of their own."""
        bases = [_base_name(base) or self._reference(base) for base in kind.__bases__]
        members = {
            member: value for member, value in vars(kind).items() if member not in _NOT_COMPARED
        }
        self._classes.append(kind)
        own = Changes()
        for function in _functions(members):
            own.add(_changes_in(function))
        lines = [f"bases {bases}"]
        for member in sorted(members):
            value = _unwrapped(members[member])
            if member in own.attributes and not isinstance(value, _NO_DATA):
                continue
            if isinstance(value, types.FunctionType):
                title = f"{name}.{member}"
                self._found[title] = _CODE + _hash(self._function(title, value))
                lines.append(f"{member}: {type(members[member]).__name__}")
                continue
            text, state = self._described(value)
            fixed = isinstance(members[member], (*_NO_DATA, functools.cached_property))
            if member in self._changes.attributes and not fixed:
                self._found[f"{name}.{member}"] = _STATE
            elif state or isinstance(vars(kind)[member], _CONTAINERS):
                self._found[f"{name}.{member}"] = _STATE + _hash(text)
            else:
                lines.append(f"{member}: {text}")
        return "\n".join(lines)

    def _code(self, code: types.CodeType) -> str:
        """What code does, instruction by instruction."""
        places: dict[int, int] = {}
        kept: list[dis.Instruction] = []
        for instruction in dis.get_instructions(code):
            places[instruction.offset] = len(kept)
            if instruction.opname not in ("EXTENDED_ARG", "CACHE"):
                kept.append(instruction)
        count = code.co_argcount + code.co_kwonlyargcount
        lines = [
            f"{code.co_argcount} {code.co_posonlyargcount} {code.co_flags & _FLAGS} "
            f"{code.co_varnames[:count]}"
        ]
        following = [*kept[1:], None]
        for instruction, after in zip(kept, following, strict=True):
            stored = after is not None and after.opname == "STORE_NAME"
            if stored and after.argval in _NOT_COMPARED:  # type: ignore[union-attr]
                continue  # a docstring, or the number of a line
            lines.append(f"{instruction.opname} {self._argument(instruction, places)}")
        lines.append(str(_handlers(code, places)))
        return "\n".join(lines)

    def _argument(self, instruction: dis.Instruction, places: Mapping[int, int]) -> str:
        code = instruction.opcode
        if instruction.arg is None:
            return ""
        if code in dis.hasconst:
            return self._text(instruction.argval)
        if code in dis.hasname or code in dis.hasfree:
            return str(instruction.argval)
        if code in dis.hasjrel or code in dis.hasjabs:
            return str(places.get(instruction.argval))
        return str(instruction.arg)

    # Values ------------------------------------------------------------------------------

    def _described(self, value: Any, describe: Any = None) -> tuple[str, bool]:
        """A value as text, and whether it may change without an edit."""
        around, self._is_state = self._is_state, False
        text = (describe or self._text)(value)
        state, self._is_state = self._is_state, around
        return text, state

    def _root(self, value: Any) -> str:
        """What the user gave; of objects the attributes are compared."""
        if isinstance(value, types.MethodType):
            return f"{self._root(value.__self__)}.{value.__func__.__name__}"
        kind = type(value)
        custom = is_own(kind) and not isinstance(value, type | keras.Model | enum.Enum)
        plain = custom and hasattr(value, "__dict__") and not hasattr(value, "get_config")
        if isinstance(value, keras_tuner.HyperModel) or plain:
            self._open[id(value)] = len(self._open)
            return f"{self._reference(kind)}{self._attributes(value, parts=True)}"
        return self._text(value)

    def _text(self, value: Any) -> str:
        """A value as text, the same in every process."""
        if isinstance(value, str) and not isinstance(value, enum.Enum):
            return repr(str(value))
        if type(value) in _PLAIN:
            self._is_state = self._is_state or _is_moment(value)
            return repr(value)
        if isinstance(value, types.CodeType):
            return self._code(value)
        if isinstance(value, types.FunctionType | type):
            return self._reference(value)
        place = id(value)
        if place in self._open:
            return f"…{len(self._open) - self._open[place]}"
        if place not in self._texts:
            self._known.append(value)
            self._open[place] = len(self._open)
            text, state = self._described(value, self._caught)
            del self._open[place]
            self._texts[place] = (text if len(text) <= _LONGEST else _short(text)), state
        text, state = self._texts[place]
        self._is_state = self._is_state or state
        return text

    def _caught(self, value: Any) -> str:
        """A value as text; by its type alone if it can't be described."""
        if len(self._open) > _DEEPEST:
            self._is_state = True
            return f"a {type(value).__name__}"
        try:
            return self._compound(value)
        except RecursionError:
            raise  # how deep it comes differs between processes
        except Exception as error:
            logger.debug("describing a %s by its type alone: %s", type(value).__name__, error)
            return f"a {type(value).__name__}"

    def _compound(self, value: Any) -> str:
        if type(value).__module__.partition(".")[0] in _SESSIONS:
            return f"a {type(value).__name__}"
        if isinstance(value, list | tuple | deque):
            self._is_state = self._is_state or isinstance(value, deque)
            kind = "[{}]" if isinstance(value, list) else "({})"
            if len(value) > _MANY and set(map(type, value)) <= _PLAIN:
                return kind.format(self._digest(value, _digest_of_many))
            return kind.format(", ".join(self._text(each) for each in value))
        if isinstance(value, set | frozenset):
            return f"{{{', '.join(sorted(self._key(each) for each in value))}}}"
        if isinstance(value, dict | types.MappingProxyType):
            pairs = [(self._key(key), key) for key in value]
            pairs.sort(key=lambda pair: pair[0])
            return f"{{{', '.join(f'{text}: {self._text(value[key])}' for text, key in pairs)}}}"
        if isinstance(value, np.generic) and value.dtype.kind in "biufcSU":
            return f"{value.dtype} {value.item()!r}"
        array = _array_of(value)
        if array is not None:
            labels = _labels_of(value)
            bytes_ = self._digest(value, lambda _: _hash_of(array))
            return f"array({array.dtype}, {array.shape}, {bytes_}{labels})"
        return self._callable(value) or self._object(value)

    def _digest(self, value: Any, make: Callable[[Any], str]) -> str:
        if id(value) not in self.digests:
            self.digests[id(value)] = make(value)
        return self.digests[id(value)]

    def _key(self, value: Any) -> str:
        """An element of a set, or a key: objects by their type alone, for they have no order."""
        if isinstance(value, tuple):
            return f"({', '.join(map(self._key, value))})"
        if isinstance(value, frozenset):
            return f"{{{', '.join(sorted(map(self._key, value)))}}}"
        simple: tuple[Any, ...] = (
            *_PLAIN,
            *_WRITTEN,
            np.generic,
            enum.Enum,
            types.FunctionType,
            type,
            os.PathLike,
        )
        if isinstance(value, simple):
            return self._text(value)
        self._is_state = True
        return f"a {self._reference(type(value))}"

    def _callable(self, value: Any) -> str | None:
        """What wraps a function; None for anything else."""
        if isinstance(value, functools.partial):
            return self._partial(value)
        if isinstance(value, types.MethodType):
            return f"{self._text(value.__self__)}.{value.__func__.__name__}"
        if isinstance(value, types.ModuleType):
            return f"module {value.__name__}"
        inner = getattr(value, "python_function", None) or getattr(value, "__wrapped__", None)
        if isinstance(inner, types.FunctionType):
            return f"{type(value).__name__}({self._text(inner)})"
        return None

    def _partial(self, value: functools.partial[Any]) -> str:
        function = value.func
        changed, names = Changes(), []
        if isinstance(function, types.FunctionType):
            changed = _changes_in(function)
            names = list(function.__code__.co_varnames[: function.__code__.co_argcount])
        names += [""] * len(value.args)
        given = [*zip(names, value.args, strict=False), *sorted(value.keywords.items())]
        texts = [self._argument_text(name, each, changed) for name, each in given]
        keywords = sorted(value.keywords)
        return f"partial({self._text(function)}, {keywords}, {', '.join(texts)})"

    def _object(self, value: Any) -> str:
        kind = type(value)
        if isinstance(value, enum.Enum):
            return f"{self._reference(kind)}.{value.name}"
        if isinstance(value, os.PathLike):
            return repr(os.fspath(value))
        if isinstance(value, re.Pattern):
            return f"pattern({value.pattern!r}, {value.flags})"
        if isinstance(value, _WRITTEN):
            self._is_state = self._is_state or _is_moment(value)
            return repr(value)
        if isinstance(value, keras.Model):
            return f"{self._reference(kind)} {self._digest(value, _digest_of)}"
        settings = isinstance(value, types.SimpleNamespace | argparse.Namespace)
        if settings or (dataclasses.is_dataclass(value) and is_own(kind)):
            return self._settings(value)
        if isinstance(value, keras_tuner.HyperModel) or not hasattr(value, "get_config"):
            if not is_own(kind) and not isinstance(value, keras_tuner.HyperModel):
                return getattr(value, "__name__", self._reference(kind))
            self._is_state = True
            return f"{self._reference(kind)}{self._attributes(value)}"
        try:
            config = _config_of(value)
        except Exception:
            self._is_state = True
            return f"{self._reference(kind)}{self._attributes(value)}"
        return f"{self._reference(kind)} {self._text(config)}"

    def _settings(self, value: Any) -> str:
        """A configuration object, which is state unless all of its values are plain."""
        held = _held(value)
        changed = not held.keys().isdisjoint(self._changes.attributes | self._changes.elsewhere)
        if changed or not all(map(_is_constant, held.values())):
            self._is_state = True
        kind = self._reference(type(value))
        return f"{kind}({', '.join(f'{n}={self._text(v)}' for n, v in sorted(held.items()))})"

    def _attributes(self, value: Any, *, parts: bool = False) -> str:
        """An object's attributes, but those that its methods change after ``__init__``.

        Args:
            value: The object.
            parts: Whether each attribute is a part of its own.
        """
        held = _held(value)
        methods = _methods(type(value))
        first = reached("__init__", methods)
        own = Changes()
        for name, method in methods.items():
            if name not in first:
                own.add(_changes_in(method))
        texts = []
        for name, each in sorted(held.items()):
            if name in own.attributes or getattr(each, "__self__", None) is value:
                continue
            text, state = self._described(each)
            if parts:
                state = state or name in self._changes.attributes | self._changes.elsewhere
                state = state or _may_change(each, name, self._changes)
                self._found[f"self.{name}"] = _STATE + _hash(text) if state else _short(text)
            else:
                texts.append(f"{name}={text}")
        return f"({', '.join(texts)})"


def _held(value: Any) -> dict[str, Any]:
    """The attributes of an object, those in slots included."""
    found = dict(getattr(value, "__dict__", {}))
    for kind in type(value).__mro__:
        slots = vars(kind).get("__slots__", ())
        for name in [slots] if isinstance(slots, str) else slots:
            if name not in ("__dict__", "__weakref__") and hasattr(value, name):
                found.setdefault(name, getattr(value, name))
    return found


def _methods(kind: type) -> dict[str, types.FunctionType]:
    found: dict[str, types.FunctionType] = {}
    for base in reversed(kind.__mro__):
        if is_own(base):
            found |= {function.__name__: function for function in _functions(vars(base))}
    return found


def _outer_values(function: types.FunctionType) -> dict[str, Any]:
    """The values of a function's closure, and the globals that it names."""
    code, known = function.__code__, function.__globals__
    used = dict(zip(code.co_freevars, map(_contents, function.__closure__ or ()), strict=True))
    return used | {name: known[name] for name in global_names(code) if name in known}


def _changes_in(function: types.FunctionType) -> Changes:
    """What a function changes, by the bytecode."""
    values = _outer_values(function)

    def is_custom(name: str) -> bool:
        value = values.get(name)
        if isinstance(value, types.FunctionType | types.ModuleType | type):
            return is_own(value)
        return callable(value) and is_own(type(value))

    return changes_of(function.__code__, is_custom)


def _changes_in_class(kind: type) -> Changes:
    """What the methods of a class change, but for the attributes that ``__init__`` sets."""
    found = Changes()
    methods = _methods(kind)
    first = reached("__init__", methods)
    for name, method in methods.items():
        changed = _changes_in(method)
        if name in first:
            changed.attributes.clear()
        found.add(changed)
    found.names = {name for name in found.names if not name.startswith("local ")}
    return found


def _changes_in_module(known: Mapping[str, Any]) -> Changes:
    """What all functions and classes of a module change, given its globals."""
    found = Changes()
    for value in list(known.values()):
        if isinstance(value, types.FunctionType) and value.__globals__ is known:
            found.add(_changes_in(value))
        elif isinstance(value, type) and value.__module__ == known.get("__name__"):
            found.add(_changes_in_class(value))
    return found


def _may_change(value: Any, name: str, changes: Changes) -> bool:
    """Whether a container gets other names in code, by which it may be changed."""
    if not isinstance(value, _CONTAINERS):
        return False
    if name in changes.shared:
        return True
    items = value.values() if isinstance(value, dict) else value
    if isinstance(value, np.ndarray) or name not in changes.opened:
        return False
    return any(isinstance(each, _CONTAINERS) for each in items)


def _is_constant(value: Any) -> bool:
    if isinstance(value, tuple | frozenset):
        return all(map(_is_constant, value))
    functions = isinstance(value, types.FunctionType | type | enum.Enum)
    return type(value) in _PLAIN or functions or isinstance(value, _WRITTEN)


def _is_moment(value: Any) -> bool:
    """Whether a number or a date is the time at which a script was run."""
    if isinstance(value, datetime.datetime):
        value = value.timestamp()
    return type(value) in (int, float) and abs(value - time.time()) < _DAY


def _config_of(value: Any) -> Any:
    """The configuration of an object, with all settings of Keras' losses and metrics."""
    if type(value).__module__.partition(".")[0] == "keras":
        written = serialize(value)
        if isinstance(written, dict) and isinstance(written.get("config"), dict):
            return without_names(written["config"])
    return without_names(value.get_config())


def _labels_of(value: Any) -> str:
    """The names and types of a table's columns."""
    if isinstance(value, pd.DataFrame):
        return f", {[(str(name), str(dtype)) for name, dtype in value.dtypes.items()]}"
    return f", {value.name}" if isinstance(value, pd.Series) else ""


def _title(value: Any) -> str:
    """The name of a function or class, without the function that it was made in."""
    name: str = getattr(value, "__qualname__", None) or value.__name__
    return name.rpartition("<locals>.")[2]


def _base_name(base: type) -> str | None:
    """Keras makes a subclass of Model one of Functional when it is first built."""
    if base is keras.Model or (issubclass(base, keras.Model) and not is_own(base)):
        return "keras.Model"
    return None


def _unwrapped(member: Any) -> Any:
    if isinstance(member, staticmethod | classmethod):
        return member.__func__
    if isinstance(member, property):
        return [member.fget, member.fset, member.fdel]
    if isinstance(member, functools.cached_property):
        return member.func
    return member


def _functions(members: Mapping[str, Any]) -> Iterator[types.FunctionType]:
    """The functions among a class's members, properties' included."""
    for member in members.values():
        unwrapped = _unwrapped(member)
        for each in unwrapped if isinstance(unwrapped, list) else [unwrapped]:
            if isinstance(each, types.FunctionType):
                yield each


def _contents(cell: Any) -> Any:
    try:
        return cell.cell_contents
    except ValueError:  # empty
        return None


def _handlers(code: types.CodeType, places: Mapping[int, int]) -> list[tuple[Any, ...]]:
    """Where which exceptions are handled."""
    entries = getattr(dis.Bytecode(code), "exception_entries", ())
    return [
        (places.get(e.start), places.get(e.end), places.get(e.target), e.depth, e.lasti)
        for e in entries
    ]


def _array_of(value: Any) -> np.ndarray | None:
    """Data of NumPy, pandas, TensorFlow and Keras as an array; None for anything else."""
    if isinstance(value, pd.DataFrame | pd.Series):
        return np.asarray(pd.util.hash_pandas_object(value))
    if isinstance(value, np.ndarray | np.generic) or keras.ops.is_tensor(value):
        array = np.asarray(value)
        return array if array.dtype.kind in "biufcSUmM" else None
    if isinstance(value, keras.Variable):
        return np.asarray(value.numpy())
    return None


def _digest_of(model: keras.Model) -> str:
    try:
        return digest(model, model.get_weights())[:12]
    except Exception:  # it can't be written down
        return _hash(str([_hash_of(weight) for weight in model.get_weights()]))


def _digest_of_many(values: Sequence[Any]) -> str:
    """The digest of plain values; numbers of one type are hashed as an array, which is faster."""
    kinds = set(map(type, values))
    if kinds in ({int}, {float}):
        array = np.asarray(values)
        if array.dtype.kind in "if":
            return f"{array.dtype} {_hash_of(array)}"
    return _hash(repr(list(values)))


def _short(text: str) -> str:
    one_line = "\n" not in text and len(text) <= _LONGEST
    return text if one_line and not text.startswith(_CODE) else f"a value {_hash(text)}"


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode(errors="surrogatepass")).hexdigest()[:12]


def _hash_of(array: np.ndarray) -> str:
    return hashlib.sha256(np.ascontiguousarray(array).tobytes()).hexdigest()[:12]
