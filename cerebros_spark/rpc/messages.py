"""What driver and workers say to one another: frozen values, and their JSON form.

Reading is strict: a field that is missing, left over, of another type or out of bounds makes the
whole message a MessageError. The readers follow the dataclasses' annotations, so a new field is
read strictly without further ado. Nothing is unpickled.
"""

from __future__ import annotations

import dataclasses
import enum
import functools
import json
import math
import types
import typing
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

from cerebros_spark.core.errors import CerebrosError
from cerebros_spark.core.types import MetricState, Phase, UnitFailure, UnitResult
from cerebros_spark.worker.io_thread import Assignment, Report

#: Bytes of a message, either way.
MAX_BYTES = 16 * 1024 * 1024
_MAX_TEXT = 4096
_MAX_LONG_TEXT = 128 * 1024
_MAX_ENTRIES = 64
_MAX_WHOLE = 2**63 - 1
_LONG = frozenset({"error", "traceback", "fatal"})
_KINDS: dict[str, type] = {"result": UnitResult, "failure": UnitFailure}

About = dict[str, int | str]
T = TypeVar("T")


class MessageError(CerebrosError, ValueError):
    """A message that this project's other end would not have sent."""


class Word(str, enum.Enum):
    """What the driver has to say."""

    AGAIN = "again"  # nothing now: ask again
    WORK = "work"
    OVER = "over"  # the run has ended
    REVOKED = "revoked"  # this process was replaced or given up; the run goes on without it


@dataclass(frozen=True)
class Request:
    """A worker reports and asks for work.

    Attributes:
        worker: The worker's number.
        incarnation: Name of the worker's process.
        number: Of the process's requests, rising from 1. A request sent again keeps its number.
        seen: Number of the last assignment that the process has received.
        hello: What a process says of itself until it is answered; then None.
        reports: Reports of units that the process was given.
        asks: Whether the process has use for an assignment, and waits for it.
        fatal: Why the process ends, if it does.
    """

    worker: int
    incarnation: str
    number: int
    seen: int
    hello: About | None
    reports: tuple[Report, ...]
    asks: bool
    fatal: str | None


@dataclass(frozen=True)
class Beat:
    """A worker's process lives.

    Attributes:
        worker: The worker's number.
        incarnation: Name of the worker's process.
        number: Of the process's beats, rising from 1.
        progress: A number that changes while work goes on.
    """

    worker: int
    incarnation: str
    number: int
    progress: int


@dataclass(frozen=True)
class Answer:
    """What the driver answers to both.

    Attributes:
        word: What the worker is to do.
        number: Number of the assignment, rising from 1.
        assignment: The work, if there is some.
    """

    word: Word
    number: int = 0
    assignment: Assignment | None = None


def write(message: Request | Beat | Answer) -> bytes:
    """The JSON form of a message. Errors' texts are cut to what the other end accepts."""
    fields = dict(vars(message))
    if isinstance(message, Request):
        fields["fatal"] = None if message.fatal is None else _cut(message.fatal)
        fields["reports"] = [_report_fields(report) for report in message.reports]
    # A report may hold a hundred thousand numbers, which ``asdict`` would copy one by one.
    return json.dumps(fields, separators=(",", ":"), default=vars).encode()


def read_request(data: bytes, workers: int) -> Request:
    """Reads a request to a driver of so many workers; raises MessageError."""
    request = _read(Request, data)
    _check_worker(request.worker, workers)
    for report in request.reports:
        if report.worker != request.worker:
            raise MessageError("a report of another worker")
        if isinstance(report, UnitResult):
            _check_result(report)
    return request


def read_beat(data: bytes, workers: int) -> Beat:
    """Reads a beat to a driver of so many workers; raises MessageError."""
    beat = _read(Beat, data)
    _check_worker(beat.worker, workers)
    return beat


def read_answer(data: bytes) -> Answer:
    """Reads the driver's answer; raises MessageError."""
    answer = _read(Answer, data)
    if (answer.word is Word.WORK) != (answer.assignment is not None):
        raise MessageError("work without an assignment, or the other way round")
    return answer


# Writing ---------------------------------------------------------------------------------


def _report_fields(report: Report) -> dict[str, Any]:
    fields = dict(vars(report))
    for name in _LONG.intersection(fields):
        fields[name] = _cut(fields[name])
    kind = "result" if isinstance(report, UnitResult) else "failure"
    return {"kind": kind, "value": fields}


def _cut(text: str) -> str:
    """A text that can be read: in UTF-8, and with its middle left out if it is too long."""
    text = text.encode(errors="backslashreplace").decode()
    if len(text) <= _MAX_LONG_TEXT:
        return text
    half = _MAX_LONG_TEXT // 2 - 10
    return f"{text[:half]}\n[…]\n{text[-half:]}"


# Reading ---------------------------------------------------------------------------------


def _check_worker(worker: int, workers: int) -> None:
    if worker >= workers:
        raise MessageError(f"there is no worker {worker}")


def _check_result(result: UnitResult) -> None:
    if (result.unit.phase is Phase.TRAIN) != (result.state is not None):
        raise MessageError("a training unit without a state, or a validation unit with one")
    if result.state is not None:
        key = result.state.key
        if key.startswith("/") or ".." in key.split("/"):
            raise MessageError("a state's key is no relative path")


def _read(kind: type[T], data: bytes) -> T:
    if len(data) > MAX_BYTES:
        raise MessageError(f"more than {MAX_BYTES} bytes")
    try:
        value = json.loads(data)
    except RecursionError:
        raise MessageError("nested too deeply") from None
    except ValueError:  # of numbers with thousands of digits, too
        raise MessageError("not JSON") from None
    message: T = _reader(typing.cast(Any, kind))(value)
    return message


@functools.cache
def _reader(kind: Any) -> Callable[[Any], Any]:
    """The function that reads a value of an annotation's type."""
    if kind in _PLAIN:
        return _PLAIN[kind]
    if isinstance(kind, type) and issubclass(kind, enum.Enum):
        return functools.partial(_choice, kind)
    if dataclasses.is_dataclass(kind):
        return _fields_reader(kind)
    origin, parts = typing.get_origin(kind), typing.get_args(kind)
    if origin is tuple:
        return functools.partial(_items, _reader(parts[0]))
    if origin is dict:
        return functools.partial(_entries, _reader(parts[1]))
    if origin is types.UnionType and parts[-1] is types.NoneType:
        return functools.partial(_optional, _reader(functools.reduce(_or, parts[:-1])))
    raise TypeError(f"no message has a {kind!r}")


def _fields_reader(kind: Any) -> Callable[[Any], Any]:
    readers = {
        name: _long_reader(hint) if name in _LONG else _reader(hint)
        for name, hint in typing.get_type_hints(kind).items()
    }

    def read(value: Any) -> Any:
        if not isinstance(value, dict) or value.keys() != readers.keys():
            raise MessageError(f"not the fields of {kind.__name__}")
        fields = {}
        for name, reader in readers.items():
            try:
                fields[name] = reader(value[name])
            except MessageError as error:
                raise MessageError(f"{name}: {error}") from None
        return kind(**fields)

    return read


def _long_reader(hint: Any) -> Callable[[Any], Any]:
    read = functools.partial(_text, longest=_MAX_LONG_TEXT)
    return read if hint is str else functools.partial(_optional, read)


def _or(one: Any, other: Any) -> Any:
    return one | other


def _text(value: Any, longest: int = _MAX_TEXT) -> str:
    if not isinstance(value, str):
        raise MessageError("not a text")
    if len(value) > longest:
        raise MessageError(f"a text of {len(value)} characters")
    try:
        value.encode()
    except UnicodeEncodeError:
        raise MessageError("a text that is no Unicode") from None
    return value


def _whole(value: Any) -> int:
    if type(value) is not int or not 0 <= value <= _MAX_WHOLE:
        raise MessageError("not a whole number from 0")
    return value


def _number(value: Any) -> float:
    if type(value) not in (int, float) or not 0 <= value < math.inf or value > _MAX_WHOLE:
        raise MessageError("not a number from 0")
    number: float = value
    return number


def _flag(value: Any) -> bool:
    if not isinstance(value, bool):
        raise MessageError("neither true nor false")
    return value


def _whole_or_text(value: Any) -> int | str:
    return _text(value) if isinstance(value, str) else _whole(value)


def _choice(kind: type[enum.Enum], value: Any) -> enum.Enum:
    try:
        return kind(_text(value))
    except ValueError:
        raise MessageError(f"not a {kind.__name__}") from None


def _optional(read: Callable[[Any], Any], value: Any) -> Any:
    return None if value is None else read(value)


def _items(read: Callable[[Any], Any], value: Any) -> tuple[Any, ...]:
    if not isinstance(value, list):
        raise MessageError("not a list")
    return tuple(read(each) for each in value)


def _entries(read: Callable[[Any], Any], value: Any) -> dict[str, Any]:
    if not isinstance(value, dict) or len(value) > _MAX_ENTRIES:
        raise MessageError(f"not an object of at most {_MAX_ENTRIES} entries")
    return {_text(name): read(each) for name, each in value.items()}


def _metrics(value: Any) -> MetricState:
    """Metric variables: any numbers at all, NaN and infinities too."""
    for variable in _items(lambda each: each, value):
        for number in _items(lambda each: each, variable):
            if type(number) is float:
                continue
            if type(number) is not int or abs(number) > _MAX_WHOLE:
                raise MessageError("a metric variable that is not of numbers")
    return tuple(tuple(variable) for variable in value)


def _report(value: Any) -> Report:
    if not isinstance(value, dict) or value.keys() != {"kind", "value"}:
        raise MessageError("not a report")
    if not isinstance(value["kind"], str) or value["kind"] not in _KINDS:
        raise MessageError("an unknown kind of report")
    report: Report = _reader(_KINDS[value["kind"]])(value["value"])
    return report


_PLAIN: dict[Any, Callable[[Any], Any]] = {
    str: _text,
    int: _whole,
    float: _number,
    bool: _flag,
    int | str: _whole_or_text,
    MetricState: _metrics,
    Report: _report,
}
