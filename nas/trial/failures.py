"""Trial failures: one-line summaries, and checks that end a search."""

from __future__ import annotations

import re
from collections.abc import Sequence

from cerebros_spark.core.errors import SearchError
from nas.trial.record import TrialRecord

_MAX_CHARACTERS = 300
_SHOWN_REASONS = 2
_TYPE = re.compile(r"([A-Za-z_][\w.]*): ")
# Lines that TensorFlow and Keras add around the message.
_NOISE = re.compile(
    r"""\s|Traceback\ \(most\ recent|Graph\ execution\ error|Detected\ at\ node|<stack\ traces
    |Stack\ trace\ for\ op|in\ user\ code|Original\ stack\ trace|Arguments\ received
    |Errors\ may\ have\ originated|Exception\ encountered\ when\ calling
    |\d+\ successful\ operations|\d+\ derived\ errors
    |Node:\ |\(\d+\)\ *[A-Z_]+:\ *$|.{0,80}\ root\ error\(s\)\ found""",
    re.VERBOSE,
)
# Keras' reason why an object cannot be deserialized; AutoGraph's why code cannot be traced.
_CAUSE = re.compile(
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
    """Summarize an exception or its text as one line with its type and message.

    TensorFlow puts graph nodes and stack traces before the message, and Keras puts a call's
    arguments after it; both are omitted.
    """
    text = f"{type(error).__name__}: {error}" if isinstance(error, BaseException) else error
    match = _TYPE.match(text)
    kind, message = (match[0], text[match.end() :]) if match else ("", text)
    lines = [_MARKS.sub("", line).rstrip() for line in message.splitlines()]
    useful = [line for line in lines if line and not _NOISE.match(line)]
    first = (useful or [line.strip() for line in lines if line.strip()] or [""])[0]
    causes = _CAUSE.findall(message)
    if causes:
        kind, first = "" if _TYPE.match(causes[-1]) else kind, _MARKS.sub("", causes[-1])
    if len(first) > _MAX_CHARACTERS:
        first = first[: _MAX_CHARACTERS - 1] + "…"
    return (kind + first).rstrip(": ")


def check_consecutive_failures(failed: Sequence[TrialRecord], limit: int | None, run: str) -> None:
    """Raise SearchError with the reasons if at least ``limit`` consecutive trials failed.

    Args:
        failed: The failed trials since the last success.
        limit: Number of consecutive failures that ends the search. If None, nothing is checked.
        run: Address of the run's journal, for the error message.
    """
    if limit is not None and len(failed) >= limit:
        raise SearchError(_describe(f"{len(failed)} consecutive trials failed", failed, run))


def check_any_score(ended: Sequence[TrialRecord], run: str) -> None:
    """Raise SearchError if no ended trial has a score.

    Args:
        ended: All trials of a finished search.
        run: Address of the run's journal, for the error message.
    """
    if any(record.score is not None for record in ended):
        return
    if not ended:
        raise SearchError("the tuner proposed no trials: the space is empty")
    raise SearchError(_describe(f"all {len(ended)} trials failed", ended, run))


def is_same_reason(one: str, other: str) -> bool:
    """Return whether two failure reasons differ at most in numbers and memory addresses."""
    return _remove_numbers(one) == _remove_numbers(other)


def _remove_numbers(reason: str) -> str:
    return re.sub(r"0x[0-9a-f]+|\d+", "#", reason)


def _describe(summary: str, failed: Sequence[TrialRecord], run: str) -> str:
    """Return an error message of at most five lines: ``summary`` and the most frequent reasons."""
    failed = sorted(failed, key=lambda each: each.index)
    by_kind: dict[str, list[str]] = {}
    for record in failed:
        reason = summarize_error(record.error or "")
        by_kind.setdefault(_remove_numbers(reason), []).append(reason)
    hint = f"tracebacks are in the log, and in python -m cerebros_spark.journal {run}"
    if len(by_kind) == 1:
        (reasons,) = by_kind.values()
        return f"{summary}, {failed[0].trial_id} first: {reasons[0]}\n{hint}"
    groups = sorted(by_kind.values(), key=len, reverse=True)
    lines = [
        f"{len(reasons)} trial{'s' if len(reasons) > 1 else ''}: {reasons[0]}"
        for reasons in groups[:_SHOWN_REASONS]
    ]
    if len(groups) > _SHOWN_REASONS:
        others = sum(len(reasons) for reasons in groups[_SHOWN_REASONS:])
        lines.append(f"{others} more for {len(groups) - _SHOWN_REASONS} other reasons")
    return "\n".join([f"{summary}:", *lines, hint])
