"""What identifies custom code: a digest of what functions and classes compute.

A resumed run must be trained by the code it began with. The digests are made of bytecode, with the
values that it refers to: defaults, closures, constants and helper functions of the same project.
Comments, line numbers, docstrings, the names of local variables and the place of a file don't
count. Code of installed packages is identified by its name alone.
"""

from __future__ import annotations

import builtins
import dis
import enum
import functools
import hashlib
import logging
import os
import sys
import types
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import keras
import keras_tuner
import numpy as np
import pandas as pd

from cerebros_spark.backend.shipping import is_own_module
from nas.spaces.fixed import digest, without_names

_PACKAGES = ("nas", "cerebros_spark")  # where they are no installed packages, but checked out

logger = logging.getLogger("nas")

Parts = dict[str, str]
"""By name of a function, a class or a constant, its digest or its value."""

_LONGEST = 60  # characters of a value that is recorded as it is
_SHOWN = 3  # parts that an error names
_CODE = "code "
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
_CHANGING = frozenset(
    {
        *("append", "extend", "insert", "pop", "popleft", "remove", "clear", "add", "discard"),
        *("update", "setdefault", "appendleft"),
    }
)
_LOADS = ("LOAD_GLOBAL", "LOAD_DEREF", "LOAD_NAME")
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
            parts = _Collector().parts(root)
        except Exception as error:  # objects of any kind may be nested too deep, or not hashable
            logger.warning("cannot compare %s when the run is resumed: %s", name, error)
            continue
        custom = any(value.startswith(_CODE) for value in parts.values())
        if custom or isinstance(root, keras_tuner.HyperModel):
            found[name] = parts
    return {"python": PYTHON, **found}


def differences(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """Return what differs between two results of :func:`describe_code`, in words.

    Custom objects that only one of them has don't count: the networks of the other did without.
    """
    found = []
    for root in sorted({*before, *now} - {"python"}):
        if root.startswith("custom_objects") and not (root in before and root in now):
            continue
        found += _different(root, before.get(root, {}), now.get(root, {}))
    return found


def shown(found: Sequence[str]) -> str:
    """Differences in one line, the first few of them."""
    more = f" and {len(found) - _SHOWN} more" if len(found) > _SHOWN else ""
    return "; ".join(found[:_SHOWN]) + more


def _different(root: str, before: Parts, now: Parts) -> list[str]:
    """The parts of one root that differ; those that only one has count if no other does."""
    changed = [
        _in_words(root, name, before[name], now[name])
        for name in before
        if name in now and before[name] != now[name]
    ]
    if changed:
        return changed
    gone = [f"{name} ({root}), which is not used now" for name in before if name not in now]
    return gone + [f"code without {name} ({root})" for name in now if name not in before]


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

    def __init__(self) -> None:
        self._found: Parts = {}
        self._names: dict[int, str] = {}  # of functions and classes, by identity
        self._known: list[Any] = []  # so that no identity is used twice
        self._queue: deque[tuple[str, Any]] = deque()
        self._open: set[int] = set()  # containers and objects being described

    def parts(self, root: Any) -> Parts:
        """The parts, by name."""
        text = self._text(root)
        if not isinstance(root, types.FunctionType | type):
            self._found["arguments"] = _short(text)
        while self._queue:
            name, value = self._queue.popleft()
            if isinstance(value, types.FunctionType):
                self._found[name] = _CODE + _hash(self._function(value))
            else:
                self._found[name] = _CODE + _hash(self._class(name, value))
        return self._found

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

    def _function(self, function: types.FunctionType) -> str:
        code = function.__code__
        rebound, changed = _rebound_names(code), _changed_names(code)
        used = dict(zip(code.co_freevars, map(_contents, function.__closure__ or ()), strict=True))
        known = function.__globals__
        used |= {name: known[name] for name in _global_names(code) if name in known}
        for name, value in sorted(used.items()):
            state = name in changed and not isinstance(value, _NO_DATA)
            if not state and name not in rebound and not name.startswith("__"):
                self._refer(name, value, code)
        defaults = [function.__defaults__, function.__kwdefaults__]
        return "\n".join([self._code(code), self._text(defaults)])

    def _refer(self, name: str, value: Any, code: types.CodeType) -> None:
        """Collects a value that code refers to by a name."""
        if isinstance(value, types.ModuleType):
            if is_own(value):
                self._module(value, code)
            return
        text = self._text(value)
        if isinstance(value, types.FunctionType | type) and text == name:
            return
        if getattr(builtins, name, self) is value:
            return
        text, key, count = _short(text), name, 1
        while self._found.get(key, text) != text or key in self._names.values():
            count += 1
            key = f"{name} ({count})"
        self._found[key] = text

    def _module(self, module: types.ModuleType, code: types.CodeType) -> None:
        """Collects what code may use of a custom module: whatever has a name that it mentions."""
        if id(module) in self._open:
            return
        self._open.add(id(module))
        held = vars(module)
        for name in sorted(_all_names(code) & held.keys()):
            if not name.startswith("__"):
                value = held[name]
                title = name if isinstance(value, types.FunctionType | type) else None
                self._refer(title or f"{module.__name__}.{name}", value, code)
        self._open.discard(id(module))

    def _class(self, name: str, kind: type) -> str:
        """A class: its bases, and its members, of which functions are parts of their own."""
        bases = [_base_name(base) or self._reference(base) for base in kind.__bases__]
        members = {
            member: value for member, value in vars(kind).items() if member not in _NOT_COMPARED
        }
        state = _changed_attributes(_functions(members))
        lines = [f"bases {bases}"]
        for member in sorted(members):
            value = _unwrapped(members[member])
            if member in state and not isinstance(value, _NO_DATA):
                continue
            if isinstance(value, types.FunctionType):
                self._found[f"{name}.{member}"] = _CODE + _hash(self._function(value))
                lines.append(f"{member}: {type(members[member]).__name__}")
            else:
                lines.append(f"{member}: {self._text(value)}")
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

    def _text(self, value: Any) -> str:
        """A value as text, the same in every process."""
        if value is None or isinstance(value, bool | int | float | complex | bytes):
            return repr(value)
        if isinstance(value, str):
            return repr(str(value))
        if isinstance(value, types.CodeType):
            return self._code(value)
        if isinstance(value, types.FunctionType | type):
            return self._reference(value)
        if id(value) in self._open:
            return "…"
        self._open.add(id(value))
        try:
            return self._compound(value)
        finally:
            self._open.discard(id(value))

    def _compound(self, value: Any) -> str:
        if isinstance(value, list | tuple):
            parts = [self._text(each) for each in value]
            return f"[{', '.join(parts)}]" if isinstance(value, list) else f"({', '.join(parts)})"
        if isinstance(value, set | frozenset):
            return f"{{{', '.join(sorted(self._text(each) for each in value))}}}"
        if isinstance(value, Mapping):
            pairs = sorted(f"{self._text(key)}: {self._text(each)}" for key, each in value.items())
            return f"{{{', '.join(pairs)}}}"
        array = _array_of(value)
        if array is not None:
            return f"array({array.dtype}, {array.shape}, {_hash_of(array)})"
        return self._callable(value) or self._object(value)

    def _callable(self, value: Any) -> str | None:
        """What wraps a function; None for anything else."""
        if isinstance(value, functools.partial):
            arguments = f"{self._text(value.args)}, {self._text(value.keywords)}"
            return f"partial({self._text(value.func)}, {arguments})"
        if isinstance(value, types.MethodType):
            return f"{self._text(value.__self__)}.{value.__func__.__name__}"
        if isinstance(value, types.ModuleType):
            return f"module {value.__name__}"
        inner = getattr(value, "python_function", None) or getattr(value, "__wrapped__", None)
        if isinstance(inner, types.FunctionType):
            return f"{type(value).__name__}({self._text(inner)})"
        return None

    def _object(self, value: Any) -> str:
        kind = type(value)
        if isinstance(value, enum.Enum):
            return f"{self._reference(kind)}.{value.name}"
        if isinstance(value, os.PathLike):
            return repr(os.fspath(value))
        if isinstance(value, keras.Model):
            return f"{self._reference(kind)} {_digest_of(value)}"
        if isinstance(value, keras_tuner.HyperModel) or not hasattr(value, "get_config"):
            if not is_own(kind) and not isinstance(value, keras_tuner.HyperModel):
                return getattr(value, "__name__", self._reference(kind))
            return f"{self._reference(kind)}{self._attributes(value)}"
        try:
            config = without_names(value.get_config())
        except Exception:
            return f"{self._reference(kind)}{self._attributes(value)}"
        return f"{self._reference(kind)}{self._text(config)}"

    def _attributes(self, value: Any) -> str:
        """An object's attributes, but those that its methods change after ``__init__``."""
        held = dict(getattr(value, "__dict__", {}))
        methods: dict[str, types.FunctionType] = {}
        for base in reversed(type(value).__mro__):
            if is_own(base):
                methods |= {f.__name__: f for f in _functions(vars(base))}
        first = _reached("__init__", methods)
        state = _changed_attributes(f for name, f in methods.items() if name not in first)
        kept = {
            name: each
            for name, each in held.items()
            if name not in state and getattr(each, "__self__", None) is not value
        }
        return f"({', '.join(f'{n}={self._text(v)}' for n, v in sorted(kept.items()))})"


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


def _reached(name: str, methods: Mapping[str, types.FunctionType]) -> set[str]:
    """The methods that one calls, itself included, and those that these call."""
    found: set[str] = set()
    waiting = [name]
    while waiting:
        method = waiting.pop()
        if method in methods and method not in found:
            found.add(method)
            waiting += _all_names(methods[method].__code__)
    return found


def _contents(cell: Any) -> Any:
    try:
        return cell.cell_contents
    except ValueError:  # empty
        return None


def _codes(code: types.CodeType) -> Iterator[types.CodeType]:
    """Code, and the code of functions and classes inside."""
    yield code
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            yield from _codes(constant)


def _all_names(code: types.CodeType) -> set[str]:
    return {name for each in _codes(code) for name in each.co_names}


def _global_names(code: types.CodeType) -> set[str]:
    """Names that are looked up among a function's globals."""
    return {
        instruction.argval
        for each in _codes(code)
        for instruction in dis.get_instructions(each)
        if instruction.opname in ("LOAD_GLOBAL", "LOAD_NAME", "LOAD_FROM_DICT_OR_GLOBALS")
    }


def _instructions(code: types.CodeType) -> Iterator[list[dis.Instruction]]:
    """The instructions of code, and of functions and classes inside."""
    for each in _codes(code):
        yield [i for i in dis.get_instructions(each) if i.opname != "EXTENDED_ARG"]


def _rebound_names(code: types.CodeType) -> set[str]:
    """Names of global and outer variables that code assigns to: state, which identifies nothing."""
    outer = set(code.co_freevars)
    return {
        instruction.argval
        for instructions in _instructions(code)
        for instruction in instructions
        if instruction.opname in ("STORE_GLOBAL", "DELETE_GLOBAL")
        or (instruction.opname == "STORE_DEREF" and instruction.argval in outer)
    }


def _changed_names(code: types.CodeType, opcodes: Sequence[str] = _LOADS) -> set[str]:
    """Names of variables (or attributes) whose items code changes, such as lists of results."""
    found = set()
    for instructions in _instructions(code):
        for place, instruction in enumerate(instructions):
            follows = instructions[place + 1 : place + 6]
            if instruction.opname in opcodes and _changes(follows):
                found.add(instruction.argval)
    return found


def _changed_attributes(functions: Iterable[types.FunctionType]) -> set[str]:
    """Names of attributes that functions assign to, or whose items they change."""
    found = set()
    for function in functions:
        code = function.__code__
        found |= _changed_names(code, ("LOAD_ATTR",))
        for instructions in _instructions(code):
            found |= {i.argval for i in instructions if i.opname == "STORE_ATTR"}
    return found


def _changes(follows: Sequence[dis.Instruction]) -> bool:
    """Whether instructions behind one that loads an object change it: a method, or an item."""
    names = [instruction.opname for instruction in follows]
    if names[:1] in (["LOAD_METHOD"], ["LOAD_ATTR"]):
        return follows[0].argval in _CHANGING
    if names[1:2] in (["STORE_SUBSCR"], ["DELETE_SUBSCR"]):
        return True
    return names[1:3] == ["COPY", "COPY"] and names[3:4] in (["BINARY_SUBSCR"], ["BINARY_OP"])


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


def _short(text: str) -> str:
    one_line = "\n" not in text and len(text) <= _LONGEST
    return text if one_line and not text.startswith(_CODE) else f"a value {_hash(text)}"


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode(errors="surrogatepass")).hexdigest()[:12]


def _hash_of(array: np.ndarray) -> str:
    return hashlib.sha256(np.ascontiguousarray(array).tobytes()).hexdigest()[:12]
