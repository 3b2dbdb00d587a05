"""What code changes: names and attributes whose values are state, and identify nothing."""

from __future__ import annotations

import dis
import functools
import sys
import types
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, fields
from typing import Any, NamedTuple

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
#: How many values are on the stack above the container.
_ITEMS = {"STORE_SUBSCR": 1, "DELETE_SUBSCR": 1, "STORE_SLICE": 2}
_SWAPS = ("SWAP", "ROT_TWO", "ROT_THREE", "ROT_FOUR")
_CLASSES = (type, types.ModuleType)
_BY_NAME = ("vars", "getattr")
_SETTING = ("setattr", "delattr", "__setattr__", "__delattr__")
# What a class's body stores that doesn't count.
_NO_STEPS = ("__doc__", "__firstlineno__", "__static_attributes__")
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
        names: Outer variables that are assigned to or whose items are changed: globals, variables
            of closures as "cell ...", and variables of the code itself as "local ...".
        attributes: Attributes that are assigned to, or whose items are changed; "*" for all.
        classes: Attributes that are assigned to where the object may be a class.
        shared: Names and attributes whose values get other names, where they may be changed.
        opened: Names and attributes whose items get other names.
        elsewhere: Attributes that other code of the same modules assigns to or changes, and as
            "class ..." those of classes.
    """

    names: set[str] = field(default_factory=set)
    attributes: set[str] = field(default_factory=set)
    classes: set[str] = field(default_factory=set)
    shared: set[str] = field(default_factory=set)
    opened: set[str] = field(default_factory=set)
    elsewhere: set[str] = field(default_factory=set)

    def add(self, other: Changes) -> None:
        """Add what other code changes."""
        for each in fields(self):
            getattr(self, each.name).update(getattr(other, each.name))


class Step(NamedTuple):
    """An instruction, and how many values are on the stack before it and after it."""

    opname: str
    opcode: int
    arg: int | None
    argval: Any
    before: int
    after: int


def changes_of(
    code: types.CodeType, values: Mapping[str, Any], is_custom: Callable[[Any], bool]
) -> Changes:
    """Return what code changes, and the functions and classes inside it.

    Args:
        code: Code of a function.
        values: Values of outer variables, by their names, those of closures with "cell " ahead.
        is_custom: Whether a value is custom code, which may change arguments.
    """
    found = Changes()
    for each in codes(code):
        inside = each is not code
        changed = Changes()
        known, _ = steps(each)
        for place, step in enumerate(known):
            _note_change(changed, known, place, values)
            _note_other_name(changed, known, place)
            if step.opname in _CALLS:
                _note_call(changed, known, place, each, lambda key: is_custom(values.get(key)))
            free = step.opname == "STORE_DEREF" and step.argval in each.co_freevars
            if free or step.opname in ("STORE_GLOBAL", "DELETE_GLOBAL"):
                changed.names.add(_key(step))
        if inside:
            for names in (changed.names, changed.shared, changed.opened):
                names -= {name for name in names if name.startswith("local ")}
        if inside and each.co_name == "__init__":
            changed.attributes.clear()
        found.add(changed)
    return found


def _start(known: list[Step], place: int, depth: int) -> int:
    """The first step of the expression whose value is at a depth of the stack at some place."""
    place -= 1
    while place > 0 and known[place].before >= depth:
        place -= 1
    return max(place, 0)


def _note_change(found: Changes, known: list[Step], place: int, values: Mapping[str, Any]) -> None:
    step = known[place]
    stored = step.opname in ("STORE_ATTR", "DELETE_ATTR")
    if stored:
        found.attributes.add(step.argval)
    elif step.opname not in _ITEMS and not (
        step.opname in _ATTRIBUTES and step.argval in _CHANGING
    ):
        return
    depth = step.before - _ITEMS.get(step.opname, 0)
    if place and known[place - 1].opname in _SWAPS:  # as in x.y += 1
        depth = step.after + 1
    inside = known[_start(known, place, depth) : place]
    loads = [each for each in inside if each.opname in _OUTER or each.opname in _LOCAL]
    if not loads:
        return
    root = loads[0]
    first = inside[0].before + 1
    chain = [e.argval for e in inside if e.opname in _ATTRIBUTES and e.before == first]
    found.attributes.update(chain)
    if root.argval in _BY_NAME or "__dict__" in chain:
        found.attributes |= _strings(inside) or {"*"}
        root = loads[min(1, len(loads) - 1)] if root.argval in _BY_NAME else root
    if root.argval == "globals":
        found.names |= _strings(inside)
    found.names.add(_key(root))
    may_be_class = root.opname in _LOCAL and root.argval != "self" and not chain
    may_be_class = may_be_class or issubclass(type(values.get(_key(root))), _CLASSES)
    if stored and (may_be_class or root.argval in ("cls", "type") or "__class__" in chain):
        found.classes.add(step.argval)


def _strings(inside: Iterable[Step]) -> set[str]:
    return {e.argval for e in inside if e.opname == "LOAD_CONST" and isinstance(e.argval, str)}


def _note_other_name(found: Changes, known: list[Step], place: int) -> None:
    step = known[place]
    if step.opname not in _OUTER | _LOCAL | {"LOAD_ATTR"}:
        return
    following = known[place + 1 : place + 8]
    if following and following[0].opname in _KEPT:
        found.shared.add(_key(step))
    for each in following:
        if each.opname in _KEPT or each.opname == "GET_ITER":
            found.opened.add(_key(step))
        if each.opname not in _ON_THE_WAY:
            return


def _note_call(
    found: Changes,
    known: list[Step],
    place: int,
    code: types.CodeType,
    is_custom: Callable[[str], bool],
) -> None:
    """Note the arguments of calls of custom code, and attributes that setattr() sets."""
    inside = known[_start(known, place, known[place].after) : place]
    inside = [each for each in inside if each.opname not in _CALLS]
    loads = [n for n, each in enumerate(inside) if each.opname in _OUTER | _LOCAL]
    if not loads or any("_WITH" in each.opname for each in inside):  # the end of a block
        return
    first = inside[loads[0]]
    method = inside[loads[0] + 1 : loads[0] + 2]
    direct = not method or method[0].opname not in _ATTRIBUTES
    if first.argval in _SETTING or (not direct and method[0].argval in _SETTING):
        found.attributes |= _strings(inside) or {"*"}
    parameters = code.co_varnames[: code.co_argcount + code.co_kwonlyargcount]
    if first.argval in code.co_varnames or first.argval in code.co_cellvars:
        custom = first.argval in ("self", "cls") or (direct and first.argval not in parameters)
    else:
        custom = is_custom(_key(first))
    if custom:
        for each in inside[loads[0] + 1 :]:
            if each.opname in _OUTER | _LOCAL | _ATTRIBUTES:
                found.shared.add(_key(each))


def _key(step: Step) -> str:
    if step.opname in _LOCAL:
        return f"local {step.argval}"
    return f"cell {step.argval}" if "DEREF" in step.opname else str(step.argval)


@functools.lru_cache(maxsize=4096)
def steps(code: types.CodeType) -> tuple[list[Step], dict[int, int]]:
    """Return the steps of code without docstrings and annotations, and their places by offset."""
    found: list[Step] = []
    places: dict[int, int] = {}
    depths: dict[int, int] = {}  # where jumps end
    after = 0
    for each in dis.get_instructions(code):
        before = depths.get(each.offset, after)
        after = before + dis.stack_effect(each.opcode, each.arg, jump=False)
        if each.opcode in dis.hasjrel or each.opcode in dis.hasjabs:
            jumped = before + dis.stack_effect(each.opcode, each.arg, jump=True)
            depths.setdefault(each.argval, jumped)
        places[each.offset] = len(found)
        if each.opname in ("EXTENDED_ARG", "CACHE", "PRECALL"):
            continue
        step = Step(each.opname, each.opcode, each.arg, each.argval, before, after)
        if each.opname == "STORE_NAME" and each.argval in _NO_STEPS:
            del found[_start(found, len(found), before) :]
            continue
        if each.opname == "MAKE_FUNCTION" and (each.arg or 0) & 4:
            above = 1 + (sys.version_info < (3, 11)) + bool((each.arg or 0) & 8)
            end = _start(found, len(found), before - above + 1)
            del found[_start(found, end, before - above) : end]
            step = step._replace(arg=(each.arg or 0) & ~4)
        found.append(step)
    return found, places


# Names ---------------------------------------------------------------------------------------


def codes(code: types.CodeType) -> Iterator[types.CodeType]:
    """Yield code, and the code of functions and classes inside."""
    yield code
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            yield from codes(constant)


def all_names(code: types.CodeType) -> set[str]:
    """Return all names of globals and attributes in code."""
    return {e.argval for each in codes(code) for e in steps(each)[0] if e.opcode in dis.hasname}


def global_names(code: types.CodeType) -> set[str]:
    """Return the names that are looked up among a function's globals."""
    looked_up = ("LOAD_GLOBAL", "LOAD_NAME", "LOAD_FROM_DICT_OR_GLOBALS")
    return {e.argval for each in codes(code) for e in steps(each)[0] if e.opname in looked_up}


def imports(code: types.CodeType) -> Iterator[tuple[str, frozenset[str]]]:
    """Yield the modules that code imports, with a dot for each level, and the names from them."""
    for each in codes(code):
        found, _ = steps(each)
        for level, names, step in zip(found, found[1:], found[2:], strict=False):
            if step.opname == "IMPORT_NAME":
                yield "." * level.argval + step.argval, frozenset(names.argval or ())


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
