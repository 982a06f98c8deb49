"""Errors that functions logged, grouped by what they say: hundreds of lines become a few kinds."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from metering.operations.ports import LoggedLine

_LEVELS = frozenset({"ERROR", "CRITICAL"})
# What Lambda writes before the text: its level, or the time and the id of the invocation.
_BEFORE = re.compile(r"^(\[(ERROR|CRITICAL)\]\s*|\d{4}-\d\d-\d\dT\S+\s+|RequestId: \S+\s+|[0-9a-f-]{36}\s+)+")
# What differs from one error to the next of its kind: ids, hashes, numbers.
_VARIES = re.compile(r"\b(?:[0-9a-f]{8}-[0-9a-f-]{27}|[0-9a-f]{12,}|\d+(?:\.\d+)?)\b")
_LONGEST = 300


@dataclass(frozen=True, slots=True, kw_only=True)
class LoggedError:
    """Errors of one kind of one function.

    Attributes:
        text: What the newest of them says.
        count: Number of lines.
        first_ms: Time of the oldest, epoch milliseconds.
        last_ms: Time of the newest.
        request_id: Invocation of the newest; empty if the log does not say.
        version: Version that logged the newest; empty if the line does not say.
    """

    function: str
    text: str
    count: int
    first_ms: int
    last_ms: int
    request_id: str
    version: str


def grouped(lines: Iterable[LoggedLine]) -> list[LoggedError]:
    """Group the lines that are errors by function and kind; the kind that was logged last comes first."""
    groups: dict[tuple[str, str], LoggedError] = {}
    for line in sorted(lines, key=lambda each: -each.at_ms):
        one = _read(line)
        if one is None:
            continue
        key = (one.function, _VARIES.sub("#", one.text))
        known = groups.get(key)
        groups[key] = one if known is None else replace(known, count=known.count + 1, first_ms=one.first_ms)
    return list(groups.values())


def _read(line: LoggedLine) -> LoggedError | None:
    """The error of one line; None if its own level says that it is none."""
    document = _json(line.text)
    if document is None:
        text, request_id, version = _BEFORE.sub("", line.text).split("\n", 1)[0], "", ""
    elif document.get("level") in _LEVELS:
        text = _sentence(document)
        request_id, version = str(document.get("function_request_id", "")), str(document.get("version", ""))
    else:
        return None
    return LoggedError(
        function=line.function,
        text=text.strip()[:_LONGEST],
        count=1,
        first_ms=line.at_ms,
        last_ms=line.at_ms,
        request_id=line.request_id or request_id,
        version=version,
    )


def _sentence(document: dict[str, object]) -> str:
    """Message of a JSON line, with its exception, or with the fields that the message is about."""
    text = str(document.get("message", ""))
    trace = str(document.get("exception", "")).strip()
    if trace:
        return f"{text}: {trace.splitlines()[-1]}"
    about = {name: value for name, value in document.items() if name not in _USUAL}
    return f"{text} {json.dumps(about, ensure_ascii=False)}" if about else text


# Fields that the logger writes in every line.
_USUAL = frozenset({
    "level", "location", "message", "timestamp", "service", "version", "xray_trace_id", "cold_start", "function_name",
    "function_memory_size", "function_arn", "function_request_id", "exception_name", "stage", "region",
})  # fmt: skip


def _json(text: str) -> dict[str, object] | None:
    if not text.startswith("{"):
        return None
    try:
        document = json.loads(text)
    except ValueError:
        return None
    return document if isinstance(document, dict) else None
