"""Figures of all sources of logs, for alarms and for what holds completeness back.

Only sources of the stage's settings count. A bucket that somebody reads by hand raises no alarm and holds nothing back.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Protocol

from metering.ledger.notes.log_sources import LogFigures, LogSourceState
from metering.onramps.coverage.looking import count
from metering.onramps.sources import LogSource, source_of
from metering.units import DAY_S, HOUR_S

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping, Sequence

    from metering.onramps.context.document import Context
    from metering.onramps.context.facts import FlowLog


# S3 destination of a flow log as returned by `DescribeFlowLogs`: the bucket, and the folder if there is one.
_S3_ARN = re.compile(r"arn:[a-z0-9-]+:s3:::(?P<bucket>[^/]+)/?(?P<prefix>.*)")


def delivers_to_s3(log: FlowLog) -> bool:
    """Whether a flow log delivers to a bucket."""
    return _S3_ARN.fullmatch(log.destination) is not None


def failure_of(log: FlowLog) -> str:
    """`DeliverLogsStatus` of a flow log if it is not `SUCCESS`; empty if all is well, or not known."""
    return "" if log.delivery_status == "SUCCESS" else log.delivery_status


def place_of_log(log: FlowLog) -> str:
    """Place of the files of a flow log, `s3://bucket/prefix/AWSLogs/`; its destination if it does not deliver to S3.

    AWS puts `AWSLogs` below the folder of the destination. A Hive layout has other folders below that.
    """
    found = _S3_ARN.fullmatch(log.destination)
    if found is None:
        return log.destination
    folder = found["prefix"].strip("/")
    return f"s3://{found['bucket']}/{folder + '/' if folder else ''}AWSLogs/"


def logs_of_stage(context: Context | None, sources: Sequence[LogSource]) -> Iterator[tuple[FlowLog, LogSource]]:
    """Flow logs that deliver into a log source of the stage, each with its source."""
    for log in context.flow_logs.values() if context is not None else ():
        bucket, key = split_place(place_of_log(log))
        source = source_of(sources, bucket, key) or _containing(sources, bucket, key)
        if source is not None and delivers_to_s3(log) and "vpc-flow" in source.kinds:
            yield log, source


def _containing(sources: Sequence[LogSource], bucket: str, key: str) -> LogSource | None:
    """A log source whose prefix is below the folder: of an account or region alone, for instance."""
    return next((each for each in sources if each.bucket == bucket and each.prefix.startswith(key)), None)


def split_place(place: str) -> tuple[str, str]:
    """Bucket and key of `s3://bucket/key`; two empty texts of another place."""
    if not place.startswith("s3://"):
        return "", ""
    bucket, _, key = place.removeprefix("s3://").partition("/")
    return bucket, key


def folder_of(place: str) -> str:
    """Folder of a place in S3, up to the part of the day; the parent folder if there is none."""
    head, found, _ = re.sub(r"(/year=|/\d{4}/\d{2}/).*", r"\0", place).partition("\0")
    return f"{head}/" if found else place.rpartition("/")[0] + "/"


# A larger share of refused lines raises an alarm, in thousandths.
REFUSED_PERMILLE = 10
# A source that delivered nothing for this long is silent: a flow log writes a file every 5 minutes, other sources when
# there is traffic. A source that never delivered has one hour from when it was first expected.
SILENT_S = 2 * HOUR_S
SILENT_UNSLOTTED_S = DAY_S
NEVER_S = HOUR_S


class Judges(Protocol):
    """Settings of the coverage job that figures need."""

    @property
    def kinds(self) -> Mapping[str, int | None]: ...
    @property
    def window_s(self) -> int: ...
    @property
    def unclassified_permille(self) -> int: ...
    def slotted(self, kind: str) -> bool: ...


def figures_of(
    states: Collection[LogSourceState], log_sources: Sequence[LogSource], *, before: LogFigures, job: Judges, now_s: int
) -> LogFigures:
    """Figures of all sources, as of now."""
    of_stage = [state for state in states if state.named]
    held = [(since_s, state) for state in of_stage if (since_s := held_since_s(state, job, now_s)) is not None]
    # The slots of a source that was silent for the whole window are unknown, so none count as missing.
    holding = [state for _, state in held if state.missing or not state.came or state.through_s is None]
    since_s, first = min(held, key=lambda each: each[0], default=(None, None))
    metered = sum(state.recently("metered_bytes") for state in of_stage)
    unclassified = sum(state.recently("unclassified_bytes") for state in of_stage)
    return LogFigures(
        looked_s=now_s,
        first_run_s=before.first_run_s or now_s,
        sources=len(states),
        log_sources=len(log_sources),
        missing_slots=sum(count(state.missing) + state.unlisted for state in of_stage),
        silent=sum(is_silent(state, job, now_s) for state in of_stage) + _empty(of_stage, log_sources, before, now_s),
        refusing=sum(is_refusing(state) for state in of_stage),
        unclassified=sum(is_unclassified(state, job.unclassified_permille) for state in of_stage),
        unclassified_permille=unclassified * 1000 // metered if metered else 0,
        held_s=since_s,
        holding=len(holding),
        first=first.source if first is not None and first in holding else "",
        place=folder_of(first.place) if first is not None and first in holding else "",
        settles_s=max((job.kinds.get(kind) or 0 for source in log_sources for kind in source.kinds), default=0),
    )


def held_since_s(state: LogSourceState, job: Judges, now_s: int) -> int | None:
    """Time up to which a source with slots is complete; None if it holds nothing back."""
    if not job.slotted(state.kind) or (state.ended_s and not state.missing):
        return None
    if not state.came:
        return max(state.expected_s, now_s - job.window_s) if state.expected_s and not state.ended_s else None
    return now_s - job.window_s if state.through_s is None else max(state.through_s, now_s - job.window_s)


def is_silent(state: LogSourceState, job: Judges, now_s: int) -> bool:
    """Whether a source should deliver and has not for long."""
    if state.ended_s:
        return False
    if not state.came:
        return bool(state.expected_s) and now_s - state.expected_s >= NEVER_S
    if job.slotted(state.kind):
        return state.newest_s is None or now_s - state.newest_s >= SILENT_S
    return now_s - state.planned_s >= SILENT_UNSLOTTED_S


def is_refusing(state: LogSourceState) -> bool:
    """Whether more than 1 % of its lines of the last two days were refused."""
    return state.recently("refused") * 1000 > REFUSED_PERMILLE * state.recently("lines")


def is_unclassified(state: LogSourceState, permille: int) -> bool:
    """Whether more of its bytes of the last two days are unclassified than the stage allows."""
    return state.recently("unclassified_bytes") * 1000 > permille * state.recently("metered_bytes")


def _empty(states: Sequence[LogSourceState], log_sources: Sequence[LogSource], before: LogFigures, now_s: int) -> int:
    """Log sources of the settings that are unknown a day after the first run."""
    if now_s - (before.first_run_s or now_s) < DAY_S:
        return 0
    known = {state.named for state in states}
    return sum(source.name not in known for source in log_sources)
