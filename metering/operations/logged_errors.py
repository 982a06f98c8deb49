"""Errors that functions logged, grouped by kind; the audit trail of deeds; ports to subscribers, alarms and logs."""

import json
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from metering.hours import hour_of, month_bounds_s, month_of
from metering.ledger.notes.deeds import Deed, DeedState, deeds_pk, moment_of
from metering.stores.writes import ItemStore, Put, Table


@dataclass(frozen=True, slots=True, kw_only=True)
class Subscriber:
    """Subscriber of an alert topic.

    Attributes:
        protocol: Protocol of the subscription, such as `email` or `sqs`.
        endpoint: Address.
        confirmed: Whether the owner confirmed the subscription; until then the topic delivers nothing.
        reached: Whether a message is known to arrive. SNS asks functions and queues for no confirmation.
    """

    protocol: str
    endpoint: str
    confirmed: bool
    reached: bool = True

    @property
    def alerted(self) -> bool:
        """Whether it certainly gets alerts."""
        return self.confirmed and self.reached


class Subscribers(Protocol):
    """Subscribers of a region's two alert topics."""

    def subscribers(self, severity: str) -> Sequence[Subscriber]:
        """All subscribers of the topic of `severity`, confirmed or not."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AlarmState:
    """Alarm as stored in CloudWatch.

    Attributes:
        name: Physical name (`alarm_name`).
        state: `OK`, `ALARM` or `INSUFFICIENT_DATA`; empty if the endpoint does not return it.
    """

    name: str
    arn: str
    state: str


class DeployedAlarms(Protocol):
    """Alarms of a stage in a region."""

    def states(self) -> Sequence[AlarmState]:
        """All metric alarms of the stage."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LoggedLine:
    """Line that a function logged.

    Attributes:
        function: Such as `aggregator`.
        at_ms: Epoch milliseconds.
        text: JSON if the function's own logger wrote the line.
        request_id: Id of the invocation; empty if the log lacks it.
    """

    function: str
    at_ms: int
    text: str
    request_id: str = ""


class FunctionLogs(Protocol):
    """Logs of a region's functions."""

    @property
    def functions(self) -> Sequence[str]:
        """Names of the functions that have a log, sorted."""

    def errors(self, functions: Sequence[str], *, from_s: int, to_s: int, limit: int) -> Sequence[LoggedLine]:
        """Lines that look like errors, newest first: at most `limit` over all named functions.

        Raises:
            OperationFailedError: The endpoint cannot search logs.
            UnavailableError: It gave no answer.
        """


_LEVELS = frozenset({"ERROR", "CRITICAL"})
# Prefixes that Lambda adds to a message: either a level, or a time and an invocation id.
_BEFORE = re.compile(r"^(\[(ERROR|CRITICAL)\]\s*|\d{4}-\d\d-\d\dT\S+\s+|RequestId: \S+\s+|[0-9a-f-]{36}\s+)+")
# Parts of a message that differ between errors of the same kind: ids, hashes, numbers.
_VARIES = re.compile(r"\b(?:[0-9a-f]{8}-[0-9a-f-]{27}|[0-9a-f]{12,}|\d+(?:\.\d+)?)\b")
_LONGEST = 300


@dataclass(frozen=True, slots=True, kw_only=True)
class LoggedError:
    """Errors of one kind of one function.

    Attributes:
        text, request_id, version: Value in the newest line; empty if that line lacks it.
        count: Number of lines.
        first_ms, last_ms: Times of the oldest and the newest line, epoch milliseconds.
    """

    function: str
    text: str
    count: int
    first_ms: int
    last_ms: int
    request_id: str
    version: str


def grouped(lines: Iterable[LoggedLine]) -> list[LoggedError]:
    """Group error lines by function and kind, with the most recently logged kind first."""
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
    try:
        document = json.loads(line.text) if line.text.startswith("{") else None
    except ValueError:
        document = None
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
    """Message of a JSON line, with its exception or its other fields."""
    text = str(document.get("message", ""))
    trace = str(document.get("exception", "")).strip()
    if trace:
        return f"{text}: {trace.splitlines()[-1]}"
    about = {name: value for name, value in document.items() if name not in _USUAL}
    return f"{text} {json.dumps(about, ensure_ascii=False)}" if about else text


# The logger writes these fields into every line.
_USUAL = frozenset({
    "level", "location", "message", "timestamp", "service", "version", "xray_trace_id", "cold_start", "function_name",
    "function_memory_size", "function_arn", "function_request_id", "exception_name", "stage", "region",
})  # fmt: skip


# The first month with an audit trail: earlier versions wrote none.
FIRST_MONTH_S = month_bounds_s("2026-11")[0]


@dataclass(frozen=True, slots=True, kw_only=True)
class DeedTrail:
    """The audit trail of deeds in one ledger."""

    items: ItemStore

    def begin(self, deed: Deed) -> None:
        """Record that a deed begins. Each deed has a new id, so no item can exist under its key.

        Raises:
            UnavailableError: The ledger did not respond, so the deed must not begin.
        """
        self.items.put(Put(table=Table.LEDGER, item=deed.to_item()))

    def end(self, deed: Deed, *, state: DeedState, ended_ms: int, result: str) -> Deed:
        """Record how a deed ended, and return the deed. The whole item is written, because the begin may be missing.

        Raises:
            UnavailableError: The ledger did not respond; the deed may still be recorded as begun.
        """
        ended = replace(deed, state=state, ended_ms=ended_ms, result=result)
        self.items.put(Put(table=Table.LEDGER, item=ended.to_item()))
        return ended

    def between(self, from_s: int, to_s: int) -> Iterator[Deed]:
        """Deeds that began at or after `from_s` and before `to_s` (epoch seconds), newest first.

        A month's partition is read lazily, when the caller reaches that month.
        """
        first_s = max(from_s, FIRST_MONTH_S)
        before_s = to_s
        while before_s > first_s:
            month_s = month_bounds_s(month_of(hour_of(before_s - 1)))[0]
            lowest, highest = (moment_of(1000 * each) for each in (max(month_s, first_s), before_s))
            pk = deeds_pk(1000 * month_s)
            for item in self.items.query(Table.LEDGER, pk, sk_from=lowest, sk_to=highest, descending=True):
                yield Deed.from_item(item)
            before_s = month_s
