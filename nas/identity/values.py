"""Descriptions of values that custom code refers to, as text that is equal in all processes."""

from __future__ import annotations

import argparse
import contextlib
import copyreg
import dataclasses
import enum
import functools
import inspect
import logging
import os
import sys
import types
from collections import Counter, deque
from collections.abc import Callable, Iterable
from typing import Any

import keras
import keras_tuner
import numpy as np

from nas.identity.bytecode import Changes, find_reached
from nas.identity.custom_code import is_custom, is_instance
from nas.identity.inspection import (
    CONTAINERS,
    PLAIN,
    WRITTEN,
    describe_columns,
    find_function_changes,
    find_methods,
    get_base,
    get_config,
    get_wrapped,
    hash_array,
    hash_model,
    hash_text,
    is_constant,
    is_moment,
    may_change,
    read_attributes,
    to_array,
)

logger = logging.getLogger(__name__)

Parts = dict[str, str]
"""Digest or value of each part (a function, class or value), by name."""

CODE = "code "
#: Prefix, in journals, of a value that may differ; no digest follows if code changes the value.
MUTABLE = "state "
UNKNOWN = "state of a value that can't be read"

_LONGEST = 60  # maximum number of characters of a value that is recorded in full
_MANY = 1000  # maximum number of plain values in full, and of values inside an installed object
_DEEPEST = 90  # maximum depth of nested objects, within Python's recursion limit
# Keys that are identified by their values.
_SIMPLE = (*PLAIN, *WRITTEN, np.generic, enum.Enum, os.PathLike, types.FunctionType, type)
_NO_VALUES = ("pyspark", "py4j", "_thread", "threading")  # modules of sessions and locks


class ValueDescriber:
    """Base class that describes values as text; subclasses add the description of code."""

    def __init__(self, changes: Changes, digests: dict[int, str]) -> None:
        self._changes = changes
        self.digests = digests  # of large values, by identity
        self._parts: Parts = {}
        self._described: list[Any] = []  # kept alive, so that identities stay unique
        self._open: dict[int, int] = {}  # depth of containers and objects being described
        self._texts: dict[int, tuple[str, bool]] = {}  # of described values, by identity
        self._is_mutable = False  # whether the value being described may change without an edit
        self._most = sys.maxsize  # maximum number of values to describe

    def _describe_reference(self, value: Any) -> str:
        """Return the name of a function or class, and arrange for custom code to be described."""
        raise NotImplementedError

    def _describe_code(self, code: types.CodeType) -> str:
        """Describe code as text."""
        raise NotImplementedError

    def _name_part(self, title: str, identity: int) -> str:
        """Return the name of a part: its title, with a numeric suffix if other parts share it."""
        raise NotImplementedError

    def _order_key(self, value: Any) -> str:
        """Return a sort key for functions and classes that have the same name."""
        raise NotImplementedError

    def _describe(self, value: Any, describe: Any = None) -> tuple[str, bool]:
        """Return a description of a value, and whether the value may change without a code edit.

        ``describe`` makes the description; it defaults to :meth:`_to_text`.
        """
        outer, self._is_mutable = self._is_mutable, False
        text = (describe or self._to_text)(value)
        is_mutable, self._is_mutable = self._is_mutable, outer
        return text, is_mutable

    def _describe_argument(self, name: str, value: Any, changes: Changes, owner: str) -> str:
        """Describe a function's argument, but only by its type if the function may change it."""
        text, is_mutable = self._describe(value)
        type_name, keys = type(value).__name__, {f"local {name}", f"cell {name}"}
        if is_instance(value, CONTAINERS) and keys & changes.names:
            return type_name
        if is_mutable or any(may_change(value, key, changes) for key in keys):
            self._parts[f"{name} of {owner}"] = MUTABLE + hash_text(text)
            return type_name
        return text

    def _to_text(self, value: Any) -> str:
        """Convert a value to text that is the same in every process."""
        if type(value) in PLAIN:
            self._is_mutable = self._is_mutable or is_moment(value)
            return repr(value)
        if is_instance(value, types.CodeType):
            return self._describe_code(value)
        if is_instance(value, types.FunctionType | type):
            return self._describe_reference(value)
        identity = id(value)
        if identity in self._open:
            return f"…{len(self._open) - self._open[identity]}"
        if identity not in self._texts:
            self._described.append(value)
            self._open[identity] = len(self._open)
            text, is_mutable = self._describe(value, self._to_text_or_type)
            del self._open[identity]
            self._texts[identity] = (text if len(text) <= _LONGEST else shorten(text)), is_mutable
        text, is_mutable = self._texts[identity]
        self._is_mutable = self._is_mutable or is_mutable
        return text

    def _to_text_or_type(self, value: Any) -> str:
        """Convert a value to text, or to the name of its type if it cannot be described."""
        type_name = type(value).__name__
        if len(self._open) > _DEEPEST or len(self._described) > self._most:
            self._is_mutable = True
            return f"a {type_name}"
        try:
            return self._describe_compound(value)
        except RecursionError:
            raise  # the depth of the error differs between processes
        except Exception as error:
            logger.debug("describing a %s by its type alone: %s", type_name, error)
            self._parts[f"a {type_name}"] = UNKNOWN
            return f"a {type_name}"

    def _describe_compound(self, value: Any) -> str:
        kind = type(value)
        if kind.__module__.partition(".")[0] in _NO_VALUES:
            return f"a {kind.__name__}"
        if is_instance(value, enum.Enum):
            suffix = f" {self._to_text(value._value_)}" if is_custom(kind) else ""
            return f"{self._describe_reference(kind)}.{value._name_}{suffix}"
        if is_instance(value, np.generic) and value.dtype.kind in "biufcSU":
            return f"{value.dtype} {value.item()!r}"
        base = get_base(kind)
        if kind is types.MappingProxyType:
            return self._describe_builtin(dict(value), dict)
        if base is not None and not is_instance(value, np.generic):
            text = self._describe_builtin(value, base)
            if kind is base or not is_custom(kind):
                return text
            attributes = self._describe_attributes(value)
            methods = find_methods(kind).values()
            changing = any("local self" in find_function_changes(f).names for f in methods)
            self._is_mutable = self._is_mutable or changing or attributes != "()"
            return f"{self._describe_reference(kind)}{attributes} {text}"
        prefix = f"{self._describe_reference(kind)} " if is_custom(kind) else ""
        if is_instance(value, WRITTEN):
            self._is_mutable = self._is_mutable or is_moment(value)
            return prefix + repr(value)
        array = to_array(value)
        if array is not None:
            if array.dtype.hasobject:
                text = self._to_text(array.tolist())
            else:
                text = self._digest(value, lambda _: hash_array(array))
            return f"{prefix}array({array.dtype}, {array.shape}, {text}{describe_columns(value)})"
        wrapper = self._describe_wrapper(value)
        return self._describe_object(value) if wrapper is None else prefix + wrapper

    def _describe_builtin(self, value: Any, base: Any) -> str:
        """Describe the content of a built-in type, or of a class derived from it."""
        if base in PLAIN:
            return str(base.__repr__(value))
        if base in (set, frozenset):
            return f"{{{', '.join(self._describe_keys(base.__iter__(value)))}}}"
        if base is dict:
            missing = getattr(type(value), "__missing__", None)  # it may add keys on lookup
            self._is_mutable = self._is_mutable or missing not in (None, Counter.__missing__)
            pairs = [(self._describe_key(key), each) for key, each in dict.items(value)]
            pairs.sort(key=lambda pair: pair[0])
            return f"{{{', '.join(f'{text}: {self._to_text(each)}' for text, each in pairs)}}}"
        self._is_mutable = self._is_mutable or base is deque
        items = list(base.__iter__(value))
        many = len(items) > _MANY and set(map(type, items)) <= PLAIN
        text = hash_text(repr(items)) if many else ", ".join(map(self._to_text, items))
        return f"[{text}]" if base is list else f"({text})"

    def _digest(self, value: Any, make: Callable[[Any], str]) -> str:
        if id(value) not in self.digests:
            self.digests[id(value)] = make(value)
        return self.digests[id(value)]

    def _describe_keys(self, values: Iterable[Any]) -> list[str]:
        """Describe the elements of a set, in an order that is the same in every process."""
        return sorted(map(self._describe_key, sorted(values, key=self._order_key)))

    def _describe_key(self, value: Any) -> str:
        """Describe a dict key or set element; objects are unordered, so only their type is used."""
        if is_instance(value, tuple):
            return f"({', '.join(map(self._describe_key, tuple.__iter__(value)))})"
        if is_instance(value, frozenset):
            return f"{{{', '.join(self._describe_keys(frozenset.__iter__(value)))}}}"
        if is_instance(value, _SIMPLE):
            return self._to_text(value)
        self._is_mutable = True
        return f"a {self._describe_reference(type(value))}"

    def _describe_wrapper(self, value: Any) -> str | None:
        """Describe a module or an object that wraps a function; return None if it is neither."""
        if is_instance(value, functools.partial):
            return self._describe_partial(value)
        if is_instance(value, types.MethodType):
            return f"{self._to_text(value.__self__)}.{value.__func__.__name__}"
        if is_instance(value, types.ModuleType):
            return f"module {value.__name__}"
        inner = get_wrapped(value)
        if is_instance(inner, types.FunctionType):
            return f"{type(value).__name__}({self._to_text(inner)})"
        return None

    def _describe_partial(self, value: functools.partial[Any]) -> str:
        function: Any = value.func
        changes, names = Changes(), []
        if is_instance(function, types.FunctionType):
            changes = find_function_changes(function)
            names = list(function.__code__.co_varnames[: function.__code__.co_argcount])
        names += map(str, range(len(names), len(value.args)))
        arguments = [*zip(names, value.args, strict=False), *sorted(value.keywords.items())]
        text = self._to_text(function)
        owner = self._name_part(f"partial of {text}", id(value))
        descriptions = [
            self._describe_argument(name, each, changes, owner) for name, each in arguments
        ]
        return f"partial({text}, {sorted(value.keywords)}, {', '.join(descriptions)})"

    def _describe_object(self, value: Any) -> str:
        kind = type(value)
        if is_instance(value, keras.Model):
            return f"{self._describe_reference(kind)} {self._digest(value, hash_model)}"
        is_model = is_instance(value, keras_tuner.HyperModel)
        if hasattr(kind, "get_config") and not is_model:
            with contextlib.suppress(Exception):
                return f"{self._describe_reference(kind)} {self._to_text(get_config(value))}"
        is_settings = is_instance(value, types.SimpleNamespace | argparse.Namespace)
        if not (is_settings or is_model or is_custom(kind)):
            return self._describe_installed(value)
        is_settings = is_settings or dataclasses.is_dataclass(kind)
        attributes = read_attributes(value)
        changed = attributes.keys() & (self._changes.attributes | self._changes.elsewhere)
        if changed or not is_settings or not all(map(is_constant, attributes.values())):
            self._is_mutable = True
        return f"{self._describe_reference(kind)}{self._describe_attributes(value)}"

    def _describe_installed(self, value: Any) -> str:
        """Describe an object of an installed class by its pickle reduction."""
        kind = type(value)
        reduce = copyreg.dispatch_table.get(kind)
        reduced: Any = value.__reduce_ex__(2) if reduce is None else reduce(value)
        if is_instance(reduced, str):
            module = getattr(value, "__module__", None)
            return f"{self._describe_reference(kind)} {module}.{reduced}"
        parts = [*reduced[:3], *(each if each is None else list(each) for each in reduced[3:5])]
        changing = any(each is not None for each in parts[2:]) or parts[0] is getattr
        self._is_mutable = self._is_mutable or changing or hasattr(kind, "__next__")
        outer, self._most = self._most, min(self._most, len(self._described) + _MANY)
        descriptions = [self._to_text(each) for each in parts]
        if len(self._described) > self._most:
            self._parts[f"a {kind.__name__}"] = UNKNOWN
        self._most = outer
        return f"{self._describe_reference(kind)}({', '.join(descriptions)})"

    def _describe_attributes(self, value: Any, *, as_parts: bool = False) -> str:
        """Describe the attributes of an object, except those that its methods change later.

        With ``as_parts``, the attributes become parts instead.
        """
        methods = find_methods(type(value))
        initial = find_reached("__init__", methods)
        changes = Changes()
        for name, method in methods.items():
            if name not in initial:
                changes.add(find_function_changes(method))
        descriptions = []
        for name, each in sorted(read_attributes(value).items()):
            bound = is_instance(each, types.MethodType) and each.__self__ is value
            static = inspect.getattr_static(type(value), name, None)
            cached = is_instance(static, functools.cached_property)
            if name in changes.attributes or bound or cached:
                continue
            text, is_mutable = self._describe(each)
            if not as_parts:
                descriptions.append(f"{name}={text}")
                continue
            is_mutable = is_mutable or "*" in changes.attributes
            is_mutable = is_mutable or name in self._changes.attributes | self._changes.elsewhere
            is_mutable = is_mutable or may_change(each, name, self._changes)
            self._parts[f"self.{name}"] = MUTABLE + hash_text(text) if is_mutable else shorten(text)
        return f"({', '.join(descriptions)})"


def shorten(text: str) -> str:
    """Return the text, or its digest if it is long, multiline or resembles a code digest."""
    one_line = "\n" not in text and len(text) <= _LONGEST
    return text if one_line and not text.startswith(CODE) else f"a value {hash_text(text)}"
