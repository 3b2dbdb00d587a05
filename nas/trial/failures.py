"""Which failures of trials end a search, and their reasons in a line."""

from __future__ import annotations

import re
from collections.abc import Sequence

from cerebros_spark.core.errors import SearchError
from nas.trial.record import TrialRecord

_MOST_CHARACTERS = 300
_REASONS = 2  # that an error shows, where trials failed for several
_TYPE = re.compile(r"([A-Za-z_][\w.]*): ")
# What TensorFlow and Keras put around the message itself.
_AROUND = re.compile(
    r"""\s|Traceback\ \(most\ recent|Graph\ execution\ error|Detected\ at\ node|<stack\ traces
    |Stack\ trace\ for\ op|in\ user\ code|Original\ stack\ trace|Arguments\ received
    |Errors\ may\ have\ originated|Exception\ encountered\ when\ calling
    |\d+\ successful\ operations|\d+\ derived\ errors
    |Node:\ |\(\d+\)\ *[A-Z_]+:\ *$|.{0,80}\ root\ error\(s\)\ found""",
    re.VERBOSE,
)
# Keras' reason why an object can't be made again; AutoGraph's why code can't be traced.
_INNER = re.compile(
    r"""^(?:Exception\ encountered:\s|Error\ encountered\ during\ deserialization:\s
    |\ {4}(?=\w+Error:\ ))(.+)""",
    re.MULTILINE | re.VERBOSE,
)
_MARKS = re.compile(
    r"""\x1b\[[0-9;]*m|\{\{[^{}]*\}\}\ *|\ *\[Op:[^\]]*\]|^\(\d+\)\ *[A-Z_]+:\ *|\ name:\ $
    |^Exception\ encountered:\ """,
    re.VERBOSE,
)


def summarize_error(error: BaseException | str) -> str:
    """Return the type and the message of an error in one line.

    TensorFlow writes the nodes of a graph and the stack of each ahead of the message, and Keras the
    arguments of a call behind it; these are left out.

    Args:
        error: The error; or its type and message as text.
    """
    text = f"{type(error).__name__}: {error}" if isinstance(error, BaseException) else error
    found = _TYPE.match(text)
    kind, message = (found[0], text[found.end() :]) if found else ("", text)
    lines = [_MARKS.sub("", line).rstrip() for line in message.splitlines()]
    told = [line for line in lines if line and not _AROUND.match(line)]
    first = (told or [line.strip() for line in lines if line.strip()] or [""])[0]
    cause = _INNER.findall(message)
    if cause:
        kind, first = "" if _TYPE.match(cause[-1]) else kind, _MARKS.sub("", cause[-1])
    if len(first) > _MOST_CHARACTERS:
        first = first[: _MOST_CHARACTERS - 1] + "…"
    return (kind + first).rstrip(": ")


def check_in_a_row(failed: Sequence[TrialRecord], most: int | None, run: str) -> None:
    """Check that not too many trials have failed, one after the other.

    Args:
        failed: Those that have, up to now.
        most: How many are too many; None for any number.
        run: Where the run is stored.

    Raises:
        SearchError: If they have; the message has the reasons.
    """
    if most is not None and len(failed) >= most:
        raise SearchError(_told(f"{len(failed)} trials failed one after the other", failed, run))


def check_any_score(ended: Sequence[TrialRecord], run: str) -> None:
    """Check that a search has a result.

    Args:
        ended: Its trials.
        run: Where the run is stored.

    Raises:
        SearchError: If it had no trial, or none with a score; the message has the reasons.
    """
    if any(record.score is not None for record in ended):
        return
    if not ended:
        raise SearchError("the tuner proposed no trial: the space is empty")
    raise SearchError(_told(f"all {len(ended)} trials failed", ended, run))


def same_reason(one: str, other: str) -> bool:
    """Whether two reasons differ in numbers only, such as those of trials, rows or addresses."""
    return _kind(one) == _kind(other)


def _kind(reason: str) -> str:
    return re.sub(r"0x[0-9a-f]+|\d+", "#", reason)


def _told(what: str, failed: Sequence[TrialRecord], run: str) -> str:
    """What failed, for which reasons, and where the rest is: in five lines at most."""
    ranked: dict[str, list[str]] = {}
    for record in sorted(failed, key=lambda each: each.index):
        reason = summarize_error(record.error or "")
        ranked.setdefault(_kind(reason), []).append(reason)
    rest = f"tracebacks are in the log, and in python -m cerebros_spark.journal {run}"
    first = min(failed, key=lambda record: record.index).trial_id
    if len(ranked) == 1:
        (reasons,) = ranked.values()
        return f"{what}, {first} first: {reasons[0]}\n{rest}"
    groups = sorted(ranked.values(), key=len, reverse=True)
    lines = [
        f"{len(reasons)} trial{'s' if len(reasons) > 1 else ''}: {reasons[0]}"
        for reasons in groups[:_REASONS]
    ]
    if len(groups) > _REASONS:
        others = sum(len(reasons) for reasons in groups[_REASONS:])
        lines.append(f"{others} more for {len(groups) - _REASONS} other reasons")
    return "\n".join([f"{what}:", *lines, rest])
