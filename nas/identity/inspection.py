"""Inspection of functions, classes and objects without running their code."""

from __future__ import annotations

import array
import contextlib
import datetime
import decimal
import dis
import enum
import fractions
import functools
import hashlib
import inspect
import time
import types
import uuid
from collections import deque
from collections.abc import Iterator, Mapping
from typing import Any

import keras
import numpy as np
import pandas as pd

from cerebros_spark.training.keras.serialization import serialize_object
from nas.identity.bytecode import Changes, find_changes, find_reached, list_global_names
from nas.identity.custom_code import is_custom, is_instance
from nas.spaces.fixed_model import compute_digest, strip_names

PLAIN = frozenset({bool, int, float, complex, str, bytes, type(None)})
BUFFERS = (bytearray, array.array, memoryview)
CONTAINERS = (list, dict, set, deque, types.MappingProxyType, np.ndarray, *BUFFERS)
#: Types whose ``repr()`` identifies a value.
WRITTEN = (
    *(range, slice, decimal.Decimal, fractions.Fraction, uuid.UUID, datetime.date),
    *(datetime.time, datetime.timedelta, datetime.timezone, np.dtype),
)
# Built-in types of values from which classes may derive.
_BASES = frozenset({list, tuple, deque, dict, set, frozenset} | (PLAIN - {bool, type(None)}))
_DAY = 86_400.0


# Functions and classes -------------------------------------------------------------------------


def get_title(value: Any) -> str:
    """Return the qualified name of a function or class, without enclosing functions."""
    name: str = getattr(value, "__qualname__", None) or value.__name__
    return name.rpartition("<locals>.")[2]


def get_base_name(base: type) -> str | None:
    """Return "keras.Model" if a class is a built-in model class, and otherwise None.

    All built-in model classes have the same name here, because Keras may replace the base of a
    custom model class by a different built-in one.
    """
    if base is keras.Model or (issubclass(base, keras.Model) and not is_custom(base)):
        return "keras.Model"
    return None


def unwrap_member(member: Any) -> Any:
    """Return the function that a member wraps, a property's functions, or the member itself."""
    if is_instance(member, staticmethod | classmethod):
        return member.__func__
    if is_instance(member, property):
        return [member.fget, member.fset, member.fdel]
    if is_instance(member, functools.cached_property):
        return member.func
    return member


def iterate_functions(members: Mapping[str, Any]) -> Iterator[types.FunctionType]:
    """Yield the functions among a class's members, including those of properties."""
    for member in members.values():
        function = unwrap_member(member)
        for each in function if is_instance(function, list) else [function]:
            if is_instance(each, types.FunctionType):
                yield each


def find_methods(kind: type) -> dict[str, types.FunctionType]:
    """Return a class's methods that are custom code, by name, including inherited ones."""
    methods: dict[str, types.FunctionType] = {}
    for base in reversed(kind.__mro__):
        if is_custom(base):
            methods |= {function.__name__: function for function in iterate_functions(vars(base))}
    return methods


def get_outer_values(function: types.FunctionType) -> dict[str, Any]:
    """Return a function's global values by name, and its closure variables as "cell NAME"."""
    code, module = function.__code__, function.__globals__
    values = {name: module[name] for name in list_global_names(code) if name in module}
    for name, cell in zip(code.co_freevars, function.__closure__ or (), strict=True):
        with contextlib.suppress(ValueError):  # the cell is empty
            values[f"cell {name}"] = cell.cell_contents
    return values


def get_exception_handlers(
    code: types.CodeType, indexes: Mapping[int, int]
) -> list[tuple[Any, ...]]:
    """Return the exception table of code, with step indices instead of bytecode offsets."""
    entries = getattr(dis.Bytecode(code), "exception_entries", ())
    return [
        (indexes.get(e.start), indexes.get(e.end), indexes.get(e.target), e.depth, e.lasti)
        for e in entries
    ]


# Changes ---------------------------------------------------------------------------------------


def find_function_changes(function: types.FunctionType) -> Changes:
    """Find the names and attributes that a function changes, from its bytecode."""

    def is_custom_code(value: Any) -> bool:
        if is_instance(value, types.FunctionType | types.ModuleType | type):
            return is_custom(value)
        return callable(value) and is_custom(type(value))

    return find_changes(function.__code__, get_outer_values(function), is_custom_code)


def find_class_changes(kind: type) -> Changes:
    """Find the names and attributes that a class's methods change.

    Attributes set by ``__init__``, or by methods that it may call, are excluded.
    """
    total = Changes()
    methods = find_methods(kind)
    initial = find_reached("__init__", methods)
    for name, method in methods.items():
        changes = find_function_changes(method)
        if name in initial:
            changes.attributes.clear()
        total.add(changes)
    total.names = {name for name in total.names if not name.startswith("local ")}
    return total


def find_module_changes(module: Mapping[str, Any]) -> Changes:
    """Find the names and attributes that a module's functions and classes change.

    ``module`` contains the module's globals by name.
    """
    total = Changes()
    for value in list(module.values()):
        if is_instance(value, types.FunctionType) and value.__globals__ is module:
            total.add(find_function_changes(value))
        elif is_instance(value, type) and value.__module__ == module.get("__name__"):
            total.add(find_class_changes(value))
    return total


def may_change(value: Any, name: str, changes: Changes) -> bool:
    """Return whether code may change the container ``name`` through an alias of it or its items."""
    if not is_instance(value, CONTAINERS):
        return False
    if name in changes.shared:
        return True
    if is_instance(value, (np.ndarray, *BUFFERS)) or name not in changes.opened:
        return False
    base: Any = next(each for each in CONTAINERS if is_instance(value, each))
    items = base.values(value) if hasattr(base, "values") else base.__iter__(value)
    return any(is_instance(each, CONTAINERS) for each in items)


# Values ----------------------------------------------------------------------------------------


def get_base(kind: type) -> type | None:
    """Return the built-in value type that a class is or derives from, or None if there is none."""
    return next((each for each in kind.__mro__ if each in _BASES), None)


def read_attributes(value: Any) -> dict[str, Any]:
    """Read the attributes of an object by name, including those in slots."""
    attributes: dict[str, Any] = {}
    with contextlib.suppress(AttributeError):  # the object has only slots
        attributes |= object.__getattribute__(value, "__dict__")
    for kind in type(value).__mro__:
        for name, member in vars(kind).items():
            if "__slots__" in vars(kind) and is_instance(member, types.MemberDescriptorType):
                with contextlib.suppress(AttributeError):  # the slot is empty
                    attributes.setdefault(name, member.__get__(value))
    return attributes


def get_wrapped(value: Any) -> Any:
    """Return the function that an object such as a ``tf.function`` wraps, or None."""
    if hasattr(type(value), "python_function"):
        return value.python_function
    return inspect.getattr_static(value, "__wrapped__", None)


def is_constant(value: Any) -> bool:
    """Return whether a value is treated as immutable, as functions, classes and enums are."""
    if type(value) in (tuple, frozenset):
        return all(map(is_constant, value))
    is_code = is_instance(value, types.FunctionType | type | enum.Enum)
    return type(value) in PLAIN or is_code or is_instance(value, WRITTEN)


def is_moment(value: Any) -> bool:
    """Return whether a value is a datetime or Unix time within a day of the current time."""
    if is_instance(value, datetime.datetime):
        value = value.timestamp()
    return type(value) in (int, float) and abs(value - time.time()) < _DAY


def get_config(value: Any) -> Any:
    """Return the configuration of an object, with all settings of Keras losses and metrics."""
    if type(value).__module__.partition(".")[0] == "keras":
        serialized = serialize_object(value)
        if is_instance(serialized, dict) and is_instance(serialized.get("config"), dict):
            return strip_names(serialized["config"])
    return strip_names(value.get_config())


def describe_columns(value: Any) -> str:
    """Return a pandas table's column names and dtypes as text; empty if it is not a table."""
    table = value.to_frame() if is_instance(value, pd.Series | pd.Index) else value
    if not is_instance(table, pd.DataFrame):
        return ""
    return f", {[(str(name), str(dtype)) for name, dtype in table.dtypes.items()]}"


def to_array(value: Any) -> np.ndarray | None:
    """Convert NumPy, pandas, TensorFlow or Keras data to an array.

    Return None if the value has a different type.

    A pandas object becomes an array of its row hashes.
    """
    if is_instance(value, pd.DataFrame | pd.Series | pd.Index):
        return np.asarray(pd.util.hash_pandas_object(value))
    is_tensor = not is_custom(type(value)) and keras.ops.is_tensor(value)
    is_data = is_tensor or is_instance(value, (np.ndarray, np.generic, keras.Variable, *BUFFERS))
    return np.asarray(value) if is_data else None


def hash_model(model: keras.Model) -> str:
    """Hash a model's architecture and weights, or only its weights if it is not serializable."""
    try:
        return compute_digest(model, model.get_weights())[:12]
    except Exception:  # the model cannot be serialized
        return hash_text(str([hash_array(weight) for weight in model.get_weights()]))


def hash_text(text: str) -> str:
    """Hash a string to 12 hexadecimal digits."""
    return hashlib.sha256(text.encode(errors="surrogatepass")).hexdigest()[:12]


def hash_array(array: np.ndarray) -> str:
    """Hash the values of an array to 12 hexadecimal digits."""
    return hashlib.sha256(np.ascontiguousarray(array).tobytes()).hexdigest()[:12]
