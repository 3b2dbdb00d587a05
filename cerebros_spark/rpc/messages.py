"""Messages between driver and workers, and their JSON encoding.

Decoding is strict: it raises MessageError if any field is missing, unknown, of the wrong type or
out of bounds. The annotations define the limits. The encoder is ``json`` instead of
``msgspec.json``, because metrics may be NaN or infinite.
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
    Report,
    Text,
    UnitFailure,
)

#: Maximum size of a message in bytes, in either direction.
MAX_BYTES = 16 * 1024 * 1024
_MAX_INTEGER = 2**63 - 1
_MAX_LONG_TEXT = 128 * 1024

ProcessInfo = dict[Text, Index | Text]
Message = TypeVar("Message", bound=msgspec.Struct)


class MessageError(CerebrosError, ValueError):
    """Error for an invalid message, presumably sent by a different version of this package.

    If a field is invalid, the error text names the field.
    """


class Command(str, enum.Enum):
    """Command of the driver to a worker."""

    POLL = "poll"  # no work now: send another request
    WORK = "work"
    END = "end"  # the run has ended
    REVOKED = "revoked"  # this process was replaced or is considered dead; the run continues


class ExchangeRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A worker's request, with reports of finished units and the kind of work demanded.

    Attributes:
        worker: Index of the worker.
        process_id: Random identifier of the worker's process.
        number: Number of the request in its process, ascending from 1; a retry keeps it.
        received: Number of the last assignment that the process has received; 0 if none.
        process: Information about the process; None once a reply has arrived.
        fatal: The error that ends the process; None if it continues.
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
    """Heartbeat of a worker's process; ``progress`` changes while work proceeds."""

    worker: Index
    process_id: Text
    number: Index
    progress: Index


class Reply(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The driver's reply to any request; only the command WORK has a numbered assignment."""

    command: Command
    number: Index = 0
    assignment: Assignment | None = None


def encode(message: ExchangeRequest | HeartbeatRequest | Reply) -> bytes:
    """Encode a message as JSON; shorten error messages to the length that the receiver accepts."""
    if isinstance(message, ExchangeRequest):
        fatal = None if message.fatal is None else _shorten(message.fatal)
        message = replace(
            message, fatal=fatal, reports=tuple(map(_shorten_report, message.reports))
        )
    return json.dumps(msgspec.to_builtins(message), separators=(",", ":")).encode()


def decode_request(data: bytes, workers: int) -> ExchangeRequest:
    """Decode an exchange request; raise MessageError unless it is valid for ``workers`` workers."""
    request = _decode(ExchangeRequest, data)
    _check_worker(request.worker, workers)
    for report in request.reports:
        if report.worker != request.worker:
            raise MessageError("a report of another worker")
    return request


def decode_heartbeat(data: bytes, workers: int) -> HeartbeatRequest:
    """Decode a heartbeat; raise MessageError unless it is valid for ``workers`` workers."""
    heartbeat = _decode(HeartbeatRequest, data)
    _check_worker(heartbeat.worker, workers)
    return heartbeat


def decode_reply(data: bytes) -> Reply:
    """Decode the driver's reply; raise MessageError if it is invalid."""
    reply = _decode(Reply, data)
    if (reply.command is Command.WORK) != (reply.assignment is not None):
        raise MessageError("the command WORK without an assignment, or another command with one")
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
    """Parse an integer of at most 64 bits; raise ValueError for larger ones, even in metrics."""
    if len(digits) > 20 or abs(int(digits)) > _MAX_INTEGER:
        raise ValueError
    return int(digits)


def _check_worker(worker: int, workers: int) -> None:
    if worker >= workers:
        raise MessageError(f"there is no worker {worker}")


def _shorten_report(report: Report) -> Report:
    if isinstance(report, UnitFailure):
        error, traceback = _shorten(report.error), _shorten(report.traceback)
        return replace(report, error=error, traceback=traceback)
    return report


def _shorten(text: str) -> str:
    """Shorten a long string by cutting out its middle, and make it encodable as UTF-8."""
    text = text.encode(errors="backslashreplace").decode()
    if len(text) <= _MAX_LONG_TEXT:
        return text
    half = _MAX_LONG_TEXT // 2 - 10
    return f"{text[:half]}\n[…]\n{text[-half:]}"
