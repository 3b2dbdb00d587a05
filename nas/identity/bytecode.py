"""What code changes: names and attributes whose values are state, and identify nothing."""

from __future__ import annotations

import dis
import functools
import types
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, fields
from typing import Any

_CHANGING = frozenset(
    {
        *("append", "extend", "insert", "pop", "popleft", "remove", "clear", "add", "discard"),
        *("update", "setdefault", "appendleft", "popitem", "sort", "reverse", "fill", "subtract"),
        *("move_to_end", "extendleft", "rotate", "__setitem__", "__setattr__"),
    }
)
_OUTER = frozenset(
    {
        *("LOAD_GLOBAL", "LOAD_DEREF", "LOAD_NAME", "LOAD_CLASSDEREF"),
        *("LOAD_FROM_DICT_OR_GLOBALS", "LOAD_FROM_DICT_OR_DEREF"),
    }
)
_LOCAL = frozenset({"LOAD_FAST", "LOAD_FAST_CHECK", "LOAD_FAST_AND_CLEAR"})
_ATTRIBUTES = frozenset({"LOAD_ATTR", "LOAD_METHOD"})
_CALLS = frozenset({"CALL", "CALL_FUNCTION", "CALL_FUNCTION_KW", "CALL_FUNCTION_EX", "CALL_METHOD"})
_ITEMS = frozenset({"STORE_SUBSCR", "DELETE_SUBSCR", "STORE_SLICE"})
_KEPT = frozenset(
    {
        *("STORE_FAST", "STORE_DEREF", "STORE_GLOBAL", "STORE_NAME", "STORE_ATTR", "STORE_SUBSCR"),
        *("RETURN_VALUE", "YIELD_VALUE", "BUILD_LIST", "BUILD_TUPLE", "LIST_APPEND"),
    }
)
_ON_THE_WAY = frozenset({"LOAD_CONST", "LOAD_FAST", "BINARY_SUBSCR", "BINARY_SLICE", "LOAD_ATTR"})


@dataclass
class Changes:
    """Names by what code does with their values.

    Attributes:
        names: Outer variables that are assigned to or whose items are changed, and as "local ..."
            variables of the code itself.
        attributes: Attributes that are assigned to, or whose items are changed.
        shared: Names and attributes whose values get other names, where they may be changed.
        opened: Names and attributes whose items get other names.
        elsewhere: Attributes that other code of the same modules assigns to or changes.
    """

    names: set[str] = field(default_factory=set)
    attributes: set[str] = field(default_factory=set)
    shared: set[str] = field(default_factory=set)
    opened: set[str] = field(default_factory=set)
    elsewhere: set[str] = field(default_factory=set)

    def add(self, other: Changes) -> None:
        """Add what other code changes."""
        for each in fields(self):
            getattr(self, each.name).update(getattr(other, each.name))


_Spot = tuple[int, int]


@dataclass(frozen=True)
class _Step:
    """An instruction and the part of the source that it computes."""

    opname: str
    argval: Any
    start: _Spot
    end: _Spot

    def holds(self, other: _Step) -> bool:
        return self.start <= other.start and other.end <= self.end


def changes_of(code: types.CodeType, is_custom: Callable[[str], bool]) -> Changes:
    """Return what code changes, and the functions and classes inside it.

    Args:
        code: Code of a function.
        is_custom: Whether a global or outer name is custom code, which may change arguments.
    """
    found = Changes()
    for each in codes(code):
        steps = _steps(each)
        inside = each is not code
        changed = Changes()
        for place, step in enumerate(steps):
            _note_change(changed, steps, place)
            _note_other_name(changed, steps, place)
            if step.opname in _CALLS:
                _note_call(changed, steps, step, each, is_custom)
        _note_rebound(changed, each, steps)
        if inside:
            for names in (changed.names, changed.shared, changed.opened):
                names -= {name for name in names if name.startswith("local ")}
        if inside and each.co_name == "__init__":
            changed.attributes.clear()
        found.add(changed)
    return found


def _note_rebound(found: Changes, code: types.CodeType, steps: Iterable[_Step]) -> None:
    outer = set(code.co_freevars)
    for step in steps:
        glob = step.opname in ("STORE_GLOBAL", "DELETE_GLOBAL")
        if glob or (step.opname == "STORE_DEREF" and step.argval in outer):
            found.names.add(step.argval)


def _note_change(found: Changes, steps: list[_Step], place: int) -> None:
    step = steps[place]
    method = step.opname in _ATTRIBUTES and step.argval in _CHANGING
    if step.opname in ("STORE_ATTR", "DELETE_ATTR"):
        found.attributes.add(step.argval)
    elif step.opname not in _ITEMS and not method:
        return
    inside = [each for each in steps[:place] if step.holds(each)]
    inside = inside or steps[max(place - 8, 0) : place]  # a chain of methods over several lines
    called = any(each.opname in _CALLS for each in inside)
    root = False
    for each in inside:
        if each.opname in _OUTER or each.opname in _LOCAL:
            if root and not called:
                return
            root = True
            found.names.add(_key(each))
        elif each.opname in _ATTRIBUTES:
            found.attributes.add(each.argval)
        elif each.opname != "PUSH_NULL" and not called:
            return


def _note_other_name(found: Changes, steps: list[_Step], place: int) -> None:
    step = steps[place]
    if step.opname not in _OUTER | _LOCAL | {"LOAD_ATTR"}:
        return
    following = steps[place + 1 : place + 8]
    if following and following[0].opname in _KEPT:
        found.shared.add(_key(step))
    for each in following:
        if each.opname in _KEPT or each.opname == "GET_ITER":
            found.opened.add(_key(step))
        if each.opname not in _ON_THE_WAY:
            return


def _note_call(
    found: Changes,
    steps: list[_Step],
    call: _Step,
    code: types.CodeType,
    is_custom: Callable[[str], bool],
) -> None:
    """Note the arguments of calls of custom code."""
    inside = [each for each in steps if call.holds(each) and each.opname not in _CALLS]
    loads = [n for n, each in enumerate(inside) if each.opname in _OUTER | _LOCAL]
    if not loads:
        return
    first = inside[loads[0]]
    parameters = code.co_varnames[: code.co_argcount + code.co_kwonlyargcount]
    method = inside[loads[0] + 1 : loads[0] + 2]
    direct = not method or method[0].opname not in _ATTRIBUTES
    if first.argval in code.co_varnames or first.argval in code.co_cellvars:
        custom = first.argval in ("self", "cls") or (direct and first.argval not in parameters)
    else:
        custom = is_custom(first.argval)
    if custom:
        for each in inside[loads[0] + 1 :]:
            if each.opname in _OUTER | _LOCAL | _ATTRIBUTES:
                found.shared.add(_key(each))


def _key(step: _Step) -> str:
    return f"local {step.argval}" if step.opname in _LOCAL else str(step.argval)


@functools.lru_cache(maxsize=4096)
def _steps(code: types.CodeType) -> list[_Step]:
    found = []
    line = 0
    for each in dis.get_instructions(code):
        start = each.starts_line
        line = start if start is not None and start is not True else line
        where = getattr(each, "positions", None)
        if where is None or where.lineno is None or where.col_offset is None:
            spots = (line, 0), (line, 10**6)  # Python 3.10 knows lines alone
        else:
            spots = (where.lineno, where.col_offset), (where.end_lineno, where.end_col_offset)
        if each.opname not in ("EXTENDED_ARG", "CACHE", "PRECALL"):
            found.append(_Step(each.opname, each.argval, *spots))
    return found


# Names ---------------------------------------------------------------------------------------


def codes(code: types.CodeType) -> Iterator[types.CodeType]:
    """Yield code, and the code of functions and classes inside."""
    yield code
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            yield from codes(constant)


def all_names(code: types.CodeType) -> set[str]:
    """Return all names of globals and attributes in code."""
    return {name for each in codes(code) for name in each.co_names}


def global_names(code: types.CodeType) -> set[str]:
    """Return the names that are looked up among a function's globals."""
    return {
        instruction.argval
        for each in codes(code)
        for instruction in dis.get_instructions(each)
        if instruction.opname in ("LOAD_GLOBAL", "LOAD_NAME", "LOAD_FROM_DICT_OR_GLOBALS")
    }


def reached(name: str, methods: Mapping[str, types.FunctionType]) -> set[str]:
    """Return the methods that one calls, itself included, and those that these call."""
    found: set[str] = set()
    waiting = [name]
    while waiting:
        method = waiting.pop()
        if method in methods and method not in found:
            found.add(method)
            waiting += all_names(methods[method].__code__)
    return found
