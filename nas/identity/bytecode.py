"""Bytecode analysis that finds the names and attributes that code changes (mutable values)."""

from __future__ import annotations

import dis
import functools
import sys
import types
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, fields
from typing import Any, NamedTuple

_MUTATING_METHODS = frozenset(
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
_CALLS = frozenset(
    {
        *("CALL", "CALL_KW", "CALL_FUNCTION", "CALL_FUNCTION_KW", "CALL_FUNCTION_EX"),
        *("CALL_METHOD",),
    }
)
# Python 3.13 joins two instructions on one line; on two lines they stay separate.
_JOINED = {
    "LOAD_FAST_LOAD_FAST": ("LOAD_FAST", "LOAD_FAST"),
    "STORE_FAST_LOAD_FAST": ("STORE_FAST", "LOAD_FAST"),
    "STORE_FAST_STORE_FAST": ("STORE_FAST", "STORE_FAST"),
}
_ANNOTATIONS = 4  # in the argument of MAKE_FUNCTION, since Python 3.13 of SET_FUNCTION_ATTRIBUTE
# Number of values above the container on the stack.
_ITEMS = {"STORE_SUBSCR": 1, "DELETE_SUBSCR": 1, "STORE_SLICE": 2}
_SWAPS = ("SWAP", "ROT_TWO", "ROT_THREE", "ROT_FOUR")
_CLASSES = (type, types.ModuleType)
_NAMED_ACCESS = ("vars", "getattr")
_SETTERS = ("setattr", "delattr", "__setattr__", "__delattr__")
# Names in a class body that are ignored.
_IGNORED = ("__doc__", "__firstlineno__", "__static_attributes__")
_STORING = frozenset(
    {
        *("STORE_FAST", "STORE_DEREF", "STORE_GLOBAL", "STORE_NAME", "STORE_ATTR", "STORE_SUBSCR"),
        *("RETURN_VALUE", "YIELD_VALUE", "BUILD_LIST", "BUILD_TUPLE", "LIST_APPEND"),
    }
)
_PASSING = frozenset({"LOAD_CONST", "LOAD_FAST", "BINARY_SUBSCR", "BINARY_SLICE", "LOAD_ATTR"})


@dataclass
class Changes:
    """Names and attributes whose values a piece of code changes or may change."""

    # Variables that are assigned or have items changed: globals, variables of closures as
    # "cell ...", and variables of the code itself as "local ...".
    names: set[str] = field(default_factory=set)
    # Attributes that are assigned or have items changed; "*" for all attributes.
    attributes: set[str] = field(default_factory=set)
    # Attributes that are assigned to an object that may be a class.
    classes: set[str] = field(default_factory=set)
    # Names and attributes with values that get an alias, through which they may be changed.
    shared: set[str] = field(default_factory=set)
    # Names and attributes with items that get an alias.
    opened: set[str] = field(default_factory=set)
    # Attributes that other code of the same modules changes; "class ..." for those of classes.
    elsewhere: set[str] = field(default_factory=set)

    def add(self, other: Changes) -> None:
        """Merge the changes made by a different piece of code into this object, in place."""
        for each in fields(self):
            getattr(self, each.name).update(getattr(other, each.name))


class Step(NamedTuple):
    """Bytecode instruction with the stack depths ``before`` and ``after`` it."""

    opname: str
    opcode: int
    arg: int | None
    argval: Any
    before: int
    after: int


def find_changes(
    code: types.CodeType, values: Mapping[str, Any], is_custom: Callable[[Any], bool]
) -> Changes:
    """Find the changes that code makes, including nested functions and classes.

    Args:
        code: Code object of a function.
        values: Values of global and closure variables by name; the names of closure variables
            have the prefix "cell ".
        is_custom: Function that returns whether a value is custom code, which may change its
            arguments.
    """
    total = Changes()
    for each in iterate_codes(code):
        is_nested = each is not code
        changes = Changes()
        steps, _ = read_steps(each)
        for index, step in enumerate(steps):
            _add_change(changes, steps, index, values)
            _add_other_name(changes, steps, index)
            if step.opname in _CALLS:
                _add_call(changes, steps, index, each, lambda key: is_custom(values.get(key)))
            free = step.opname == "STORE_DEREF" and step.argval in each.co_freevars
            if free or step.opname in ("STORE_GLOBAL", "DELETE_GLOBAL"):
                changes.names.add(_get_key(step))
        if is_nested:
            for names in (changes.names, changes.shared, changes.opened):
                names -= {name for name in names if name.startswith("local ")}
        if is_nested and each.co_name == "__init__":
            changes.attributes.clear()
        total.add(changes)
    return total


def _find_start(steps: list[Step], index: int, depth: int) -> int:
    """Return the index of the first step of the expression whose value is at ``depth``."""
    index -= 1
    while index > 0 and steps[index].before >= depth:
        index -= 1
    return max(index, 0)


def _add_change(changes: Changes, steps: list[Step], index: int, values: Mapping[str, Any]) -> None:
    step = steps[index]
    stored = step.opname in ("STORE_ATTR", "DELETE_ATTR")
    if stored:
        changes.attributes.add(step.argval)
    elif step.opname not in _ITEMS and not (
        step.opname in _ATTRIBUTES and step.argval in _MUTATING_METHODS
    ):
        return
    depth = step.before - _ITEMS.get(step.opname, 0)
    if index and steps[index - 1].opname in _SWAPS:  # as in x.y += 1
        depth = step.after + 1
    inside = steps[_find_start(steps, index, depth) : index]
    loads = [each for each in inside if each.opname in _OUTER or each.opname in _LOCAL]
    if not loads:
        return
    root = loads[0]
    first = inside[0].before + 1
    chain = [e.argval for e in inside if e.opname in _ATTRIBUTES and e.before == first]
    changes.attributes.update(chain)
    if root.argval in _NAMED_ACCESS or "__dict__" in chain:
        changes.attributes |= _list_strings(inside) or {"*"}
        root = loads[min(1, len(loads) - 1)] if root.argval in _NAMED_ACCESS else root
    if root.argval == "globals":
        changes.names |= _list_strings(inside)
    changes.names.add(_get_key(root))
    may_be_class = root.opname in _LOCAL and root.argval != "self" and not chain
    may_be_class = may_be_class or issubclass(type(values.get(_get_key(root))), _CLASSES)
    if stored and (may_be_class or root.argval in ("cls", "type") or "__class__" in chain):
        changes.classes.add(step.argval)


def _list_strings(inside: Iterable[Step]) -> set[str]:
    return {e.argval for e in inside if e.opname == "LOAD_CONST" and isinstance(e.argval, str)}


def _add_other_name(changes: Changes, steps: list[Step], index: int) -> None:
    step = steps[index]
    if step.opname not in _OUTER | _LOCAL | {"LOAD_ATTR"}:
        return
    following = steps[index + 1 : index + 8]
    if following and following[0].opname in _STORING:
        changes.shared.add(_get_key(step))
    for each in following:
        if each.opname in _STORING or each.opname == "GET_ITER":
            changes.opened.add(_get_key(step))
        if each.opname not in _PASSING:
            return


def _add_call(
    changes: Changes,
    steps: list[Step],
    index: int,
    code: types.CodeType,
    is_custom: Callable[[str], bool],
) -> None:
    """Add to ``changes`` what the call at ``steps[index]`` may modify.

    These are its arguments if it calls custom code, and the attribute that ``setattr()`` sets.
    """
    inside = steps[_find_start(steps, index, steps[index].after) : index]
    inside = [each for each in inside if each.opname not in _CALLS]
    loads = [n for n, each in enumerate(inside) if each.opname in _OUTER | _LOCAL]
    if not loads or any("_WITH" in each.opname for each in inside):  # the end of a block
        return
    first = inside[loads[0]]
    method = inside[loads[0] + 1 : loads[0] + 2]
    direct = not method or method[0].opname not in _ATTRIBUTES
    if first.argval in _SETTERS or (not direct and method[0].argval in _SETTERS):
        changes.attributes |= _list_strings(inside) or {"*"}
    parameters = code.co_varnames[: code.co_argcount + code.co_kwonlyargcount]
    if first.argval in code.co_varnames or first.argval in code.co_cellvars:
        custom = first.argval in ("self", "cls") or (direct and first.argval not in parameters)
    else:
        custom = is_custom(_get_key(first))
    if custom:
        for each in inside[loads[0] + 1 :]:
            if each.opname in _OUTER | _LOCAL | _ATTRIBUTES:
                changes.shared.add(_get_key(each))


def _get_key(step: Step) -> str:
    if step.opname in _LOCAL:
        return f"local {step.argval}"
    return f"cell {step.argval}" if "DEREF" in step.opname else str(step.argval)


@functools.lru_cache(maxsize=4096)
def read_steps(code: types.CodeType) -> tuple[list[Step], dict[int, int]]:
    """Return the steps (instructions) of a code object, without docstrings and annotations.

    Also return the index of each step by bytecode offset.
    """
    steps: list[Step] = []
    indexes: dict[int, int] = {}
    depths: dict[int, int] = {}  # of the stack, at jump targets
    after = 0
    for each in dis.get_instructions(code):
        before = depths.get(each.offset, after)
        after = before + dis.stack_effect(each.opcode, each.arg, jump=False)
        if each.opcode in dis.hasjrel or each.opcode in dis.hasjabs:
            jumped = before + dis.stack_effect(each.opcode, each.arg, jump=True)
            depths.setdefault(each.argval, jumped)
        indexes[each.offset] = len(steps)
        if each.opname in ("EXTENDED_ARG", "CACHE", "PRECALL"):
            continue
        if each.opname in _JOINED:
            steps += _split_joined(each, before)
            continue
        step = Step(each.opname, each.opcode, each.arg, each.argval, before, after)
        if each.opname == "STORE_NAME" and each.argval in _IGNORED:
            del steps[_find_start(steps, len(steps), before) :]
            continue
        if each.opname == "SET_FUNCTION_ATTRIBUTE" and each.arg == _ANNOTATIONS:
            end = _find_start(steps, len(steps), before)
            del steps[_find_start(steps, end, before - 1) : end]
            continue
        if each.opname == "MAKE_FUNCTION" and (each.arg or 0) & _ANNOTATIONS:
            above = 1 + (sys.version_info < (3, 11)) + bool((each.arg or 0) & 8)
            end = _find_start(steps, len(steps), before - above + 1)
            del steps[_find_start(steps, end, before - above) : end]
            step = step._replace(arg=(each.arg or 0) & ~_ANNOTATIONS)
        steps.append(step)
    return steps, indexes


def _split_joined(joined: dis.Instruction, before: int) -> Iterator[Step]:
    """Split an instruction that combines two; its argument holds four bits for each."""
    arg = joined.arg or 0
    for opname, number, name in zip(
        _JOINED[joined.opname], (arg >> 4, arg & 15), joined.argval, strict=True
    ):
        after = before + (1 if opname.startswith("LOAD") else -1)
        yield Step(opname, dis.opmap[opname], number, name, before, after)
        before = after


# Names ---------------------------------------------------------------------------------------


def iterate_codes(code: types.CodeType) -> Iterator[types.CodeType]:
    """Yield a code object and those of its nested functions and classes, recursively."""
    yield code
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            yield from iterate_codes(constant)


def _iterate_steps(code: types.CodeType) -> Iterator[Step]:
    for each in iterate_codes(code):
        yield from read_steps(each)[0]


def list_names(code: types.CodeType) -> set[str]:
    """Return the names of all globals and attributes that code uses."""
    return {step.argval for step in _iterate_steps(code) if step.opcode in dis.hasname}


def list_global_names(code: types.CodeType) -> set[str]:
    """Return the names that code looks up as globals."""
    loads = ("LOAD_GLOBAL", "LOAD_NAME", "LOAD_FROM_DICT_OR_GLOBALS")
    return {step.argval for step in _iterate_steps(code) if step.opname in loads}


def list_imports(code: types.CodeType) -> Iterator[tuple[str, frozenset[str]]]:
    """Yield the imports in code as ``(module, names)``; leading dots mark a relative import."""
    for each in iterate_codes(code):
        steps, _ = read_steps(each)
        for level, names, step in zip(steps, steps[1:], steps[2:], strict=False):
            if step.opname == "IMPORT_NAME":
                yield "." * level.argval + step.argval, frozenset(names.argval or ())


def find_reached(name: str, methods: Mapping[str, types.FunctionType]) -> set[str]:
    """Return ``name`` and the names of all methods that it may call, directly or indirectly.

    The result is empty if ``name`` is not in ``methods``.
    """
    reached: set[str] = set()
    pending = [name]
    while pending:
        method = pending.pop()
        if method in methods and method not in reached:
            reached.add(method)
            pending += list_names(methods[method].__code__)
    return reached
