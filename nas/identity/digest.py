"""What identifies custom code: a digest of what functions and classes compute.

A resumed run must be trained by the code it began with. The digests are made of bytecode, with the
values that it refers to: defaults, closures, constants and helper functions of the same project.
Comments, line numbers, docstrings, the names of local variables and the place of a file don't
count. Code of installed packages is identified by its module and name alone.

Values that custom code changes, such as caches and counters, are state and don't count. Objects
that something else may change are compared, but only warned of.
"""

from __future__ import annotations

import argparse
import array
import builtins
import contextlib
import copyreg
import dataclasses
import datetime
import decimal
import dis
import enum
import fractions
import functools
import hashlib
import importlib.util
import inspect
import logging
import os
import sys
import sysconfig
import time
import types
import uuid
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import keras
import keras_tuner
import numpy as np
import pandas as pd

from cerebros_spark.core.pickling import is_user_module
from cerebros_spark.training.keras.serialization import serialize_object
from nas.identity.bytecode import (
    Changes,
    all_names,
    changes_of,
    global_names,
    imports,
    reached,
    steps,
)
from nas.spaces.fixed_model import compute_digest, strip_names

_PACKAGES = ("nas", "cerebros_spark")  # where they are no installed packages, but checked out

logger = logging.getLogger("nas")

Parts = dict[str, str]
"""By name of a function, a class or a constant, its digest or its value."""

_LONGEST = 60  # characters of a value that is recorded as it is
_SHOWN = 3  # parts that an error names
_CODE = "code "
_STATE = "state "  # a value that is not refused; without a digest where code is known to change it
_UNKNOWN = "state of a value that can't be read"
#: Counts up when the same code gets other digests.
VERSION = 3
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
_MANY = 1000  # plain values that are described at once; values inside an installed object
_DAY = 86_400.0
_DEEPEST = 90  # objects in one another, so that Python's limit of calls is not reached
_BUFFERS = (bytearray, array.array, memoryview)
_CONTAINERS = (list, dict, set, deque, types.MappingProxyType, np.ndarray, *_BUFFERS)
# Built-in types that hold a value, and of which classes are derived.
_HOLDING = frozenset({list, tuple, deque, dict, set, frozenset} | (_PLAIN - {bool, type(None)}))
_WRITTEN = (
    *(range, slice, decimal.Decimal, fractions.Fraction, uuid.UUID, datetime.date),
    *(datetime.time, datetime.timedelta, datetime.timezone, np.dtype),
)
# Keys that are known by their values.
_SIMPLE = (*_PLAIN, *_WRITTEN, np.generic, enum.Enum, os.PathLike, types.FunctionType, type)
_NO_VALUES = ("pyspark", "py4j", "_thread", "threading")  # modules of sessions and locks
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
        if custom or _is(root, keras_tuner.HyperModel):
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
    """Return the names of values that differ, but may have been changed by a run itself.

    And of those that can't be read, and those that one side alone has: the code names the same.
    """
    found = []
    for _, parts, others in _compared(before, now):
        for name in [*parts, *(each for each in others if each not in parts)]:
            values = [each[name] for each in (parts, others) if name in each]
            differ = len(set(values)) > 1 and _is_state(*values) and _STATE not in values
            alone = len(values) == 1 and not _is_state(*values)
            if differ or alone or _UNKNOWN in values:
                found.append(name)
    return found


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
    """The parts of one root that differ; code that only one has counts if no other does.

    Code that is the same names the same: what it finds now and did not before was defined since.
    """
    changed = [
        _in_words(root, name, before[name], now[name])
        for name in before
        if name in now and before[name] != now[name] and not _is_state(before[name], now[name])
    ]
    if changed:
        return changed
    gone = [n for n in before if n not in now and before[n].startswith(_CODE)]
    new = [n for n in now if n not in before and now[n].startswith(_CODE)]
    if before and now and not (gone and new):
        return []
    without = [f"{name} ({root}), which is not used now" for name in gone]
    return without + [f"code without {name} ({root})" for name in new]


def _in_words(root: str, name: str, before: str, now: str) -> str:
    if before.startswith(_CODE) or now.startswith(_CODE):
        return f"other code of {name}" + (f" ({root})" if root != name else "")
    return f"{name} = {before}, and now it is {now} ({root})"


def is_own(value: Any) -> bool:
    """Whether a function, a class or a module is custom code, of no installed package."""
    name = value.__name__ if _is(value, types.ModuleType) else value.__module__
    if not isinstance(name, str):
        return True  # made by exec()
    return name.partition(".")[0] not in _PACKAGES and is_user_module(name)


def _is(value: Any, kinds: Any) -> bool:
    """As isinstance(), but runs no code of the value, whose ``__class__`` may raise."""
    return issubclass(type(value), kinds)


class _Collector:
    """Collects the parts of one root: its own code, and what that refers to."""

    def __init__(
        self, changes: Changes | None = None, digests: dict[int, str] | None = None
    ) -> None:
        self._changes = changes or Changes()
        self.digests = {} if digests is None else digests  # of large values, by identity
        self._found: Parts = {}
        self._names: dict[tuple[str, int], str] = {}  # of parts, by title and identity
        self._counts: Counter[str] = Counter()  # parts of a title
        self._known: list[Any] = []  # so that no identity is used twice
        self._queue: deque[tuple[str, Any]] = deque()
        self._open: dict[int, int] = {}  # containers and objects being described
        self._texts: dict[int, tuple[str, bool]] = {}  # of those that are described
        self._is_state = False  # whether what is being described may change by itself
        self._most = sys.maxsize  # values to describe, where an installed object holds them
        self._functions: list[types.FunctionType] = []
        self._classes: list[type] = []

    def parts(self, root: Any) -> Parts:
        """The parts, by name."""
        text, state = self._described(root, self._root)
        if not _is(root, types.FunctionType | type):
            self._found["arguments"] = _STATE + _hash(text) if state else _short(text)
        while self._queue:
            name, value = self._queue.popleft()
            describe = self._class if _is(value, type) else self._function
            try:
                text = describe(name, value)
            except Exception as error:
                logger.debug("cannot describe the code of %s: %s", name, error)
                self._found[name], self._most = _UNKNOWN, sys.maxsize
                self._open.clear()
                continue
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
            other.elsewhere = other.attributes | {f"class {name}" for name in other.classes}
            other.attributes, other.classes = set(), set()
            found.add(other)
        return found

    # Functions and classes ---------------------------------------------------------------

    def _reference(self, value: Any) -> str:
        """A function or class by its name; custom code is collected."""
        title = _title(value)
        if not is_own(value):
            return f"{value.__module__}.{title}"
        if (title, id(value)) not in self._names:
            self._known.append(value)
            self._queue.append((self._name(title, id(value)), value))
        return self._names[title, id(value)]

    def _name(self, title: str, place: int) -> str:
        """The name of a part, with a number where other parts have the same title."""
        if (title, place) not in self._names:
            self._counts[title] += 1
            count = self._counts[title]
            self._names[title, place] = title if count == 1 else f"{title} ({count})"
        return self._names[title, place]

    def _function(self, name: str, function: types.FunctionType) -> str:
        self._functions.append(function)
        code = function.__code__
        names = frozenset(all_names(code))
        cells = dict(zip(code.co_freevars, function.__closure__ or (), strict=True))
        for key, value in sorted(_outer_values(function).items(), key=lambda pair: pair[0]):
            each = key.removeprefix("cell ")
            if not each.startswith("__"):
                place = id(function.__globals__ if key == each else cells[each])
                self._refer(key, value, names, each, place)
        for module, wanted in _imported(function):
            self._module(module, wanted or names)
        changed = _changes_in(function)
        arguments = code.co_varnames[: code.co_argcount]
        defaults = function.__defaults__ or ()
        given = dict(zip(arguments[len(arguments) - len(defaults) :], defaults, strict=True))
        given |= function.__kwdefaults__ or {}
        texts = [f"{n}={self._argument_text(n, v, changed, name)}" for n, v in given.items()]
        return "\n".join([self._code(code), *texts])

    def _argument_text(self, name: str, value: Any, changed: Changes, owner: str) -> str:
        """An argument of a function, by its type alone where the function may change it."""
        text, state = self._described(value)
        kind, keys = type(value).__name__, {f"local {name}", f"cell {name}"}
        if _is(value, _CONTAINERS) and keys & changed.names:
            return kind
        if state or any(_may_change(value, key, changed) for key in keys):
            self._found[f"{name} of {owner}"] = _STATE + _hash(text)
            return kind
        return text

    def _refer(self, key: str, value: Any, names: frozenset[str], title: str, place: int) -> None:
        """Collects a value that code refers to by a name, the part's title."""
        if _is(value, types.ModuleType):
            if _is_followed(value):
                self._module(value, names)
            else:
                self._found[self._name(title, place)] = f"module {value.__name__}"
            return
        if getattr(builtins, key, self) is value:
            return
        if key in self._changes.names and not _is(value, _NO_DATA):
            self._found[self._name(title, place)] = _STATE
            return
        text, state = self._described(value)
        if _is(value, types.FunctionType | type) and text == title:
            return
        state = state or _may_change(value, key, self._changes)
        text = _STATE + _hash(text) if state else _short(text)
        self._found[self._name(title, place)] = text

    def _module(self, module: types.ModuleType, names: frozenset[str]) -> None:
        """Collects what code may use of a custom module: whatever has a name that it mentions."""
        if id(module) in self._open:
            return
        self._open[id(module)] = len(self._open)
        held = vars(module)
        for name in sorted(names & held.keys()):
            if not name.startswith("__"):
                value = held[name]
                code_alone = _is(value, types.FunctionType | type)
                title = name if code_alone else f"{module.__name__}.{name}"
                self._refer(name, value, names, title, id(held))
        self._open.pop(id(module))

    def _class(self, name: str, kind: type) -> str:
        """A class: its bases, and its members, of which functions are parts of their own."""
        bases = [_base_name(base) or self._reference(base) for base in kind.__bases__]
        members = {
            member: value for member, value in vars(kind).items() if member not in _NOT_COMPARED
        }
        self._classes.append(kind)
        lines = [f"bases {bases}"]
        for member in sorted(members):
            value = _unwrapped(members[member])
            if _is(value, types.FunctionType) and is_own(value):
                title = f"{name}.{member}"
                self._found[title] = _CODE + _hash(self._function(title, value))
                lines.append(f"{member}: {type(members[member]).__name__}")
                continue
            text, state = self._described(value)
            if _is(members[member], (*_NO_DATA, functools.cached_property)):
                lines.append(f"{member}: {text}")
                continue
            container = _is(value, _CONTAINERS)
            known = self._changes.classes
            known = known if _is_constant(value) else known | self._changes.attributes
            if member not in known and not container:
                lines.append(member)
            elif container and member in known:
                text = ""
            state = state or container or member in known
            state = state or f"class {member}" in self._changes.elsewhere
            text = _STATE + (text and _hash(text)) if state else _short(text)
            self._found[f"{name}.{member}"] = text
        return "\n".join(lines)

    def _code(self, code: types.CodeType) -> str:
        """What code does, instruction by instruction."""
        known, places = steps(code)
        count = code.co_argcount + code.co_kwonlyargcount
        lines = [
            f"{code.co_argcount} {code.co_posonlyargcount} {code.co_flags & _FLAGS} "
            f"{code.co_varnames[:count]}"
        ]
        lines += [f"{step.opname} {self._argument(step, places)}" for step in known]
        lines.append(str(_handlers(code, places)))
        return "\n".join(lines)

    def _argument(self, step: Any, places: Mapping[int, int]) -> str:
        code = step.opcode
        if code in dis.hasconst:
            return self._text(step.argval)
        if code in dis.hasjrel or code in dis.hasjabs:
            return str(places.get(step.argval))
        named = step.arg is not None and (code in dis.hasname or code in dis.hasfree)
        return str(step.argval if named else step.arg)

    # Values ------------------------------------------------------------------------------

    def _described(self, value: Any, describe: Any = None) -> tuple[str, bool]:
        """A value as text, and whether it may change without an edit."""
        around, self._is_state = self._is_state, False
        text = (describe or self._text)(value)
        state, self._is_state = self._is_state, around
        return text, state

    def _root(self, value: Any) -> str:
        """What the user gave; of objects the attributes are compared."""
        if _is(value, types.MethodType):
            return f"{self._root(value.__self__)}.{value.__func__.__name__}"
        kind = type(value)
        custom = is_own(kind) and not _is(value, type | keras.Model | enum.Enum)
        plain = custom and _base_of(kind) is None and not hasattr(kind, "get_config")
        if _is(value, keras_tuner.HyperModel) or plain:
            self._open[id(value)] = len(self._open)
            return f"{self._reference(kind)}{self._attributes(value, parts=True)}"
        return self._text(value)

    def _text(self, value: Any) -> str:
        """A value as text, the same in every process."""
        if type(value) in _PLAIN:
            self._is_state = self._is_state or _is_moment(value)
            return repr(value)
        if _is(value, types.CodeType):
            return self._code(value)
        if _is(value, types.FunctionType | type):
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
        kind = type(value)
        if len(self._open) > _DEEPEST or len(self._known) > self._most:
            self._is_state = True
            return f"a {kind.__name__}"
        try:
            return self._compound(value)
        except RecursionError:
            raise  # how deep it comes differs between processes
        except Exception as error:
            logger.debug("describing a %s by its type alone: %s", kind.__name__, error)
            self._found[f"a {kind.__name__}"] = _UNKNOWN
            return f"a {kind.__name__}"

    def _compound(self, value: Any) -> str:
        kind = type(value)
        if kind.__module__.partition(".")[0] in _NO_VALUES:
            return f"a {kind.__name__}"
        if _is(value, enum.Enum):
            held = f" {self._text(value._value_)}" if is_own(kind) else ""
            return f"{self._reference(kind)}.{value._name_}{held}"
        if _is(value, np.generic) and value.dtype.kind in "biufcSU":
            return f"{value.dtype} {value.item()!r}"
        base = _base_of(kind)
        if kind is types.MappingProxyType:
            return self._held_by(dict(value), dict)
        if base is not None and not _is(value, np.generic):
            text = self._held_by(value, base)
            if kind is base or not is_own(kind):
                return text
            attributes = self._attributes(value)
            changing = any("local self" in _changes_in(f).names for f in _methods(kind).values())
            self._is_state = self._is_state or changing or attributes != "()"
            return f"{self._reference(kind)}{attributes} {text}"
        own = f"{self._reference(kind)} " if is_own(kind) else ""
        if _is(value, _WRITTEN):
            self._is_state = self._is_state or _is_moment(value)
            return own + repr(value)
        found = _array_of(value)
        if found is not None:
            if found.dtype.hasobject:
                text = self._text(found.tolist())
            else:
                text = self._digest(value, lambda _: _hash_of(found))
            return f"{own}array({found.dtype}, {found.shape}, {text}{_labels_of(value)})"
        wrapped = self._callable(value)
        return self._object(value) if wrapped is None else own + wrapped

    def _held_by(self, value: Any, base: Any) -> str:
        """What a value of a built-in type, or of a class derived from it, holds."""
        if base in _PLAIN:
            return str(base.__repr__(value))
        if base in (set, frozenset):
            return f"{{{', '.join(self._keys(base.__iter__(value)))}}}"
        if base is dict:
            missing = getattr(type(value), "__missing__", None)  # it adds what is looked up
            self._is_state = self._is_state or missing not in (None, Counter.__missing__)
            pairs = [(self._key(key), each) for key, each in dict.items(value)]
            pairs.sort(key=lambda pair: pair[0])
            return f"{{{', '.join(f'{text}: {self._text(each)}' for text, each in pairs)}}}"
        self._is_state = self._is_state or base is deque
        items = list(base.__iter__(value))
        many = len(items) > _MANY and set(map(type, items)) <= _PLAIN
        text = _hash(repr(items)) if many else ", ".join(map(self._text, items))
        return f"[{text}]" if base is list else f"({text})"

    def _digest(self, value: Any, make: Callable[[Any], str]) -> str:
        if id(value) not in self.digests:
            self.digests[id(value)] = make(value)
        return self.digests[id(value)]

    def _keys(self, values: Iterable[Any]) -> list[str]:
        """Elements of a set, in an order that is the same in every process."""
        return sorted(map(self._key, sorted(values, key=self._order)))

    def _order(self, value: Any) -> str:
        """What tells functions and classes of one name from one another."""
        value = value if _is(value, types.FunctionType | type) else type(value)
        if not is_own(value):
            return ""
        if id(value) not in self.digests:
            self.digests[id(value)] = ""  # where it refers to itself
            self.digests[id(value)] = str(_Collector(self._changes, self.digests).parts(value))
        return self.digests[id(value)]

    def _key(self, value: Any) -> str:
        """An element of a set, or a key: objects by their type alone, for they have no order."""
        if _is(value, tuple):
            return f"({', '.join(map(self._key, tuple.__iter__(value)))})"
        if _is(value, frozenset):
            return f"{{{', '.join(self._keys(frozenset.__iter__(value)))}}}"
        if _is(value, _SIMPLE):
            return self._text(value)
        self._is_state = True
        return f"a {self._reference(type(value))}"

    def _callable(self, value: Any) -> str | None:
        """What wraps a function; None for anything else."""
        if _is(value, functools.partial):
            return self._partial(value)
        if _is(value, types.MethodType):
            return f"{self._text(value.__self__)}.{value.__func__.__name__}"
        if _is(value, types.ModuleType):
            return f"module {value.__name__}"
        inner = inspect.getattr_static(value, "__wrapped__", None)
        if hasattr(type(value), "python_function"):  # of TensorFlow
            inner = value.python_function
        if _is(inner, types.FunctionType):
            return f"{type(value).__name__}({self._text(inner)})"
        return None

    def _partial(self, value: functools.partial[Any]) -> str:
        function: Any = value.func
        changed, names = Changes(), []
        if _is(function, types.FunctionType):
            changed = _changes_in(function)
            names = list(function.__code__.co_varnames[: function.__code__.co_argcount])
        names += map(str, range(len(names), len(value.args)))
        given = [*zip(names, value.args, strict=False), *sorted(value.keywords.items())]
        text = self._text(function)
        owner = self._name(f"partial of {text}", id(value))
        texts = [self._argument_text(name, each, changed, owner) for name, each in given]
        return f"partial({text}, {sorted(value.keywords)}, {', '.join(texts)})"

    def _object(self, value: Any) -> str:
        kind = type(value)
        if _is(value, keras.Model):
            return f"{self._reference(kind)} {self._digest(value, _digest_of)}"
        model = _is(value, keras_tuner.HyperModel)
        if hasattr(kind, "get_config") and not model:
            with contextlib.suppress(Exception):
                return f"{self._reference(kind)} {self._text(_config_of(value))}"
        settings = _is(value, types.SimpleNamespace | argparse.Namespace)
        if not (settings or model or is_own(kind)):
            return self._installed(value)
        settings = settings or dataclasses.is_dataclass(kind)
        held = _held(value)
        changed = held.keys() & (self._changes.attributes | self._changes.elsewhere)
        if changed or not settings or not all(map(_is_constant, held.values())):
            self._is_state = True
        return f"{self._reference(kind)}{self._attributes(value)}"

    def _installed(self, value: Any) -> str:
        """An object of an installed class by what pickle would write of it."""
        kind = type(value)
        reduce = copyreg.dispatch_table.get(kind)
        reduced: Any = value.__reduce_ex__(2) if reduce is None else reduce(value)
        if _is(reduced, str):
            return f"{self._reference(kind)} {getattr(value, '__module__', None)}.{reduced}"
        parts = [*reduced[:3], *(each if each is None else list(each) for each in reduced[3:5])]
        changing = any(each is not None for each in parts[2:]) or parts[0] is getattr
        self._is_state = self._is_state or changing or hasattr(kind, "__next__")
        around, self._most = self._most, min(self._most, len(self._known) + _MANY)
        texts = [self._text(each) for each in parts]
        if len(self._known) > self._most:
            self._found[f"a {kind.__name__}"] = _UNKNOWN
        self._most = around
        return f"{self._reference(kind)}({', '.join(texts)})"

    def _attributes(self, value: Any, *, parts: bool = False) -> str:
        """An object's attributes, but those that its methods change after ``__init__``."""
        held = _held(value)
        methods = _methods(type(value))
        first = reached("__init__", methods)
        own = Changes()
        for name, method in methods.items():
            if name not in first:
                own.add(_changes_in(method))
        texts = []
        for name, each in sorted(held.items()):
            bound = _is(each, types.MethodType) and each.__self__ is value
            static = inspect.getattr_static(type(value), name, None)
            if name in own.attributes or bound or _is(static, functools.cached_property):
                continue
            text, state = self._described(each)
            if parts:
                state = state or not own.attributes.isdisjoint({"*"})
                state = state or name in self._changes.attributes | self._changes.elsewhere
                state = state or _may_change(each, name, self._changes)
                self._found[f"self.{name}"] = _STATE + _hash(text) if state else _short(text)
            else:
                texts.append(f"{name}={text}")
        return f"({', '.join(texts)})"


def _base_of(kind: type) -> type | None:
    """The built-in type that holds a value of a class, or of a class derived from it."""
    return next((each for each in kind.__mro__ if each in _HOLDING), None)


def _held(value: Any) -> dict[str, Any]:
    """The attributes of an object, those in slots included; no code of its class is run."""
    found: dict[str, Any] = {}
    with contextlib.suppress(AttributeError):  # it has slots alone
        found |= object.__getattribute__(value, "__dict__")
    for kind in type(value).__mro__:
        for name, member in vars(kind).items():
            if "__slots__" in vars(kind) and _is(member, types.MemberDescriptorType):
                with contextlib.suppress(AttributeError):  # it has no value
                    found.setdefault(name, member.__get__(value))
    return found


def _methods(kind: type) -> dict[str, types.FunctionType]:
    found: dict[str, types.FunctionType] = {}
    for base in reversed(kind.__mro__):
        if is_own(base):
            found |= {function.__name__: function for function in _functions(vars(base))}
    return found


def _outer_values(function: types.FunctionType) -> dict[str, Any]:
    """The values of a function's closure, with "cell " ahead, and the globals that it names."""
    code, known = function.__code__, function.__globals__
    found = {name: known[name] for name in global_names(code) if name in known}
    for name, cell in zip(code.co_freevars, function.__closure__ or (), strict=True):
        with contextlib.suppress(ValueError):  # it is empty
            found[f"cell {name}"] = cell.cell_contents
    return found


def _imported(function: types.FunctionType) -> Iterator[tuple[types.ModuleType, frozenset[str]]]:
    """The custom modules that a function imports, and which names from them."""
    package = function.__globals__.get("__package__")
    for name, wanted in imports(function.__code__):
        try:
            module = _import(importlib.util.resolve_name(name, package))
            for each in wanted - vars(module).keys():
                with contextlib.suppress(ImportError):
                    _import(f"{module.__name__}.{each}")
        except Exception:  # nor can the function import it
            continue
        held: list[Any] = [vars(module).get(each) for each in wanted] or [
            sys.modules[name.partition(".")[0]]
        ]
        modules = [each for each in held if _is(each, types.ModuleType)]
        used = [(module, wanted), *((each, frozenset[str]()) for each in modules)]
        yield from (pair for pair in used if _is_followed(pair[0]))


def _import(name: str) -> types.ModuleType:
    """A module; it is imported where that is custom code."""
    if name not in sys.modules:
        found = importlib.util.find_spec(name.partition(".")[0])
        place = str(found and (found.origin or found.submodule_search_locations))
        stdlib = sysconfig.get_path("stdlib")
        if "-packages" in place or stdlib in place or place in ("None", "built-in", "frozen"):
            raise ImportError(f"{name} is installed")
        importlib.import_module(name)
    return sys.modules[name]


def _is_followed(module: types.ModuleType) -> bool:
    """Whether a module is custom code, or a folder without ``__init__.py``, which may hold some."""
    folder = getattr(module, "__file__", None) is None and hasattr(module, "__path__")
    return folder or is_own(module)


def _changes_in(function: types.FunctionType) -> Changes:
    """What a function changes, by the bytecode."""

    def is_custom(value: Any) -> bool:
        if _is(value, types.FunctionType | types.ModuleType | type):
            return is_own(value)
        return callable(value) and is_own(type(value))

    return changes_of(function.__code__, _outer_values(function), is_custom)


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
        if _is(value, types.FunctionType) and value.__globals__ is known:
            found.add(_changes_in(value))
        elif _is(value, type) and value.__module__ == known.get("__name__"):
            found.add(_changes_in_class(value))
    return found


def _may_change(value: Any, name: str, changes: Changes) -> bool:
    """Whether a container gets other names in code, by which it may be changed."""
    if not _is(value, _CONTAINERS):
        return False
    if name in changes.shared:
        return True
    if _is(value, (np.ndarray, *_BUFFERS)) or name not in changes.opened:
        return False
    base: Any = next(each for each in _CONTAINERS if _is(value, each))
    items = base.values(value) if hasattr(base, "values") else base.__iter__(value)
    return any(_is(each, _CONTAINERS) for each in items)


def _is_constant(value: Any) -> bool:
    if type(value) in (tuple, frozenset):
        return all(map(_is_constant, value))
    functions = _is(value, types.FunctionType | type | enum.Enum)
    return type(value) in _PLAIN or functions or _is(value, _WRITTEN)


def _is_moment(value: Any) -> bool:
    """Whether a number or a date is the time at which a script was run."""
    if _is(value, datetime.datetime):
        value = value.timestamp()
    return type(value) in (int, float) and abs(value - time.time()) < _DAY


def _config_of(value: Any) -> Any:
    """The configuration of an object, with all settings of Keras' losses and metrics."""
    if type(value).__module__.partition(".")[0] == "keras":
        written = serialize_object(value)
        if _is(written, dict) and _is(written.get("config"), dict):
            return strip_names(written["config"])
    return strip_names(value.get_config())


def _labels_of(value: Any) -> str:
    """The names and types of a table's columns."""
    table = value.to_frame() if _is(value, pd.Series | pd.Index) else value
    if not _is(table, pd.DataFrame):
        return ""
    return f", {[(str(name), str(dtype)) for name, dtype in table.dtypes.items()]}"


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
    if _is(member, staticmethod | classmethod):
        return member.__func__
    if _is(member, property):
        return [member.fget, member.fset, member.fdel]
    if _is(member, functools.cached_property):
        return member.func
    return member


def _functions(members: Mapping[str, Any]) -> Iterator[types.FunctionType]:
    """The functions among a class's members, properties' included."""
    for member in members.values():
        unwrapped = _unwrapped(member)
        for each in unwrapped if _is(unwrapped, list) else [unwrapped]:
            if _is(each, types.FunctionType):
                yield each


def _handlers(code: types.CodeType, places: Mapping[int, int]) -> list[tuple[Any, ...]]:
    """Where which exceptions are handled."""
    entries = getattr(dis.Bytecode(code), "exception_entries", ())
    return [
        (places.get(e.start), places.get(e.end), places.get(e.target), e.depth, e.lasti)
        for e in entries
    ]


def _array_of(value: Any) -> np.ndarray | None:
    """Data of NumPy, pandas, TensorFlow and Keras as an array; None for anything else."""
    if _is(value, pd.DataFrame | pd.Series | pd.Index):
        return np.asarray(pd.util.hash_pandas_object(value))
    tensor = not is_own(type(value)) and keras.ops.is_tensor(value)
    data = tensor or _is(value, (np.ndarray, np.generic, keras.Variable, *_BUFFERS))
    return np.asarray(value) if data else None


def _digest_of(model: keras.Model) -> str:
    try:
        return compute_digest(model, model.get_weights())[:12]
    except Exception:  # it can't be written down
        return _hash(str([_hash_of(weight) for weight in model.get_weights()]))


def _short(text: str) -> str:
    one_line = "\n" not in text and len(text) <= _LONGEST
    return text if one_line and not text.startswith(_CODE) else f"a value {_hash(text)}"


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode(errors="surrogatepass")).hexdigest()[:12]


def _hash_of(array: np.ndarray) -> str:
    return hashlib.sha256(np.ascontiguousarray(array).tobytes()).hexdigest()[:12]
