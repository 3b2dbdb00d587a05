"""Messages between driver and workers, and their JSON form.

Decoding is strict: a field that is missing, unknown, of the wrong type or out of bounds makes the
whole message a MessageError. The limits are in the annotations. JSON, unlike ``msgspec.json``,
because metrics may be NaN or infinite.
"""

from __future__ import annotations

import enum
import json
from typing import Annotated, TypeVar

import msgspec
from msgspec.structs import replace

from cerebros_spark.core.errors import CerebrosError
from cerebros_spark.core.types import (
    Assignment,
    Demand,
    Index,
    LongText,
    Phase,
    Report,
    Text,
    UnitFailure,
    UnitResult,
)

#: Maximum bytes of a message, either way.
MAX_BYTES = 16 * 1024 * 1024
_MAX_INTEGER = 2**63 - 1
_MAX_LONG_TEXT = 128 * 1024

ProcessInfo = dict[Text, Index | Text]
Message = TypeVar("Message", bound=msgspec.Struct)


class MessageError(CerebrosError, ValueError):
    """A message that the other end of the same version does not send; it names the field."""


class Command(str, enum.Enum):
    """A command of the driver to a worker."""

    POLL = "poll"  # there is no work now: send another request
    WORK = "work"
    END = "end"  # the run has ended
    REVOKED = "revoked"  # this process was replaced or given up; the run continues without it


class ExchangeRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A worker's reports and demand.

    Attributes:
        process_id: Random name of the worker's process.
        number: Number of the process's request, ascending from 1; a retry keeps its number.
        received: Number of the last assignment that the process has received.
        process: Information about the process, until a reply has arrived; then None.
        fatal: Why the process ends, if it does.
    """

    worker: Index
    process_id: Text
    number: Index
    received: Index
    process: Annotated[ProcessInfo, msgspec.Meta(max_length=64)] | None
    reports: tuple[Report, ...]
    demand: Demand
    fatal: LongText | None


class HeartbeatRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A sign that a worker's process is alive; ``progress`` changes while work proceeds."""

    worker: Index
    process_id: Text
    number: Index
    progress: Index


class Reply(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The driver's reply to either request; with the command WORK, a numbered assignment."""

    command: Command
    number: Index = 0
    assignment: Assignment | None = None


def encode(message: ExchangeRequest | HeartbeatRequest | Reply) -> bytes:
    """Return a message as JSON. Error messages are cut to what the other end accepts."""
    if isinstance(message, ExchangeRequest):
        fatal = None if message.fatal is None else _shorten(message.fatal)
        message = replace(
            message, fatal=fatal, reports=tuple(map(_shorten_report, message.reports))
        )
    return json.dumps(msgspec.to_builtins(message), separators=(",", ":")).encode()


def decode_request(data: bytes, workers: int) -> ExchangeRequest:
    """Decode an exchange request to a driver of so many workers; raises MessageError."""
    request = _decode(ExchangeRequest, data)
    _check_worker(request.worker, workers)
    for report in request.reports:
        if report.worker != request.worker:
            raise MessageError("a report of another worker")
        if isinstance(report, UnitResult):
            _check_result(report)
    return request


def decode_heartbeat(data: bytes, workers: int) -> HeartbeatRequest:
    """Decode a heartbeat to a driver of so many workers; raises MessageError."""
    heartbeat = _decode(HeartbeatRequest, data)
    _check_worker(heartbeat.worker, workers)
    return heartbeat


def decode_reply(data: bytes) -> Reply:
    """Decode the driver's reply; raises MessageError."""
    reply = _decode(Reply, data)
    if (reply.command is Command.WORK) != (reply.assignment is not None):
        raise MessageError("the command WORK without an assignment, or another one with it")
    return reply


def _decode(kind: type[Message], data: bytes) -> Message:
    if len(data) > MAX_BYTES:
        raise MessageError(f"more than {MAX_BYTES} bytes")
    try:
        return msgspec.convert(json.loads(data, parse_int=_parse_integer), kind)
    except RecursionError:
        raise MessageError("nested too deeply") from None
    except msgspec.ValidationError as error:
        raise MessageError(str(error)[:200]) from None
    except ValueError:
        raise MessageError("not JSON, or an integer of more than 64 bits") from None


def _parse_integer(digits: str) -> int:
    """Return an integer of at most 64 bits; a larger one would pass as a metric."""
    if len(digits) > 20 or abs(int(digits)) > _MAX_INTEGER:
        raise ValueError
    return int(digits)


def _check_worker(worker: int, workers: int) -> None:
    if worker >= workers:
        raise MessageError(f"there is no worker {worker}")


def _check_result(result: UnitResult) -> None:
    if (result.unit.phase is Phase.TRAIN) != (result.state is not None):
        raise MessageError("a training unit without a state, or a validation unit with one")
    if result.state is not None:
        key = result.state.key
        if key.startswith("/") or ".." in key.split("/"):
            raise MessageError("the key of a state is not a relative path")


def _shorten_report(report: Report) -> Report:
    if isinstance(report, UnitFailure):
        error, traceback = _shorten(report.error), _shorten(report.traceback)
        return replace(report, error=error, traceback=traceback)
    return report


def _shorten(text: str) -> str:
    """Return a text that can be encoded, with its middle left out if it is too long."""
    text = text.encode(errors="backslashreplace").decode()
    if len(text) <= _MAX_LONG_TEXT:
        return text
    half = _MAX_LONG_TEXT // 2 - 10
    return f"{text[:half]}\n[…]\n{text[-half:]}"
