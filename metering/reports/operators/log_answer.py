"""Answers about sources of logs: their state, their gaps, and the outcome of their lines and bytes."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING

from metering.hours import rfc3339
from metering.lake import ports
from metering.onramps import reading
from metering.onramps.coverage import looking
from metering.onramps.coverage.job import CoverageJob, folder_of, is_refusing, is_silent, is_unclassified
from metering.reports import answer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from metering.lake.view import LakeView
    from metering.ledger.notes.log_sources import LogFigures, LogSourceState, LogSums
    from metering.onramps.context.document import FlowLog
    from metering.onramps.sources import LogSource

    Covered = tuple[LogSourceState, LogSums]

_GAPS_SHOWN = 3
_LOGS_SHOWN = 4
_ELSEWHERE = "not metered: it does not deliver to S3"

_LIST = answer.ListedRows(
    answer.copied("log_source", about="its name in the settings; empty: of no log source"),
    answer.copied("kind"),
    answer.copied("source", priority=answer.KEEP, about="what writes the files"),
    answer.prose("state", priority=answer.KEEP),
    answer.timed("newest", about="its newest slot with a file"),
    answer.timed("complete_through", priority=answer.ROOMY),
    answer.copied("account_id", "region", priority=answer.ROOMY),
    answer.copied("place", priority=answer.ROOMY + 1),
)
_SIZES = ("metered_bytes", "unclassified_bytes", "shadowed_bytes", "rejected_bytes")


def _coverage(job: CoverageJob, now_s: int) -> answer.RowType[Covered]:
    return answer.RowType(
        answer.copied("source", of=lambda it: it[0].source, priority=answer.KEEP, about="what writes the files"),
        answer.copied("kind", of=lambda it: it[0].kind, priority=answer.ROOMY),
        answer.prose("state", of=lambda it: state_of(it[0], job, now_s), priority=answer.KEEP),
        answer.timed(
            "first", of=lambda it: it[0].first_s, priority=answer.ROOMY + 1, about="its first slot with a file"
        ),
        answer.timed("newest", of=lambda it: it[0].newest_s, priority=answer.ROOMY, about="its newest"),
        answer.timed("complete_through", of=lambda it: it[0].through_s, about="less what may begin earlier"),
        answer.integer(
            "missing", of=lambda it: _missing(it[0]), priority=answer.KEEP, about="slots of 5 minutes without a file"
        ),
        answer.prose("gaps", of=lambda it: gaps_text(it[0]), priority=answer.KEEP),
        answer.integer("files", of=lambda it: it[1].plans, priority=answer.ROOMY),
        answer.integer("lines", of=_sum("lines")),
        answer.sized("metered_bytes", of=_sum("metered_bytes")),
        answer.sized("unclassified_bytes", of=lambda it: it[1].unclassified_bytes, priority=answer.ROOMY),
        answer.number(
            "unclassified",
            of=lambda it: share_text(it[1].unclassified_bytes, it[1].balance.get("metered_bytes", 0)),
            about="share of the metered bytes",
        ),
        answer.integer("refused", of=_sum("refused"), about="lines"),
        answer.integer("skipdata", of=_sum("skipdata"), priority=answer.ROOMY, about="lines: AWS lost records"),
        answer.sized(
            "shadowed_bytes", of=_sum("shadowed_bytes"), priority=answer.ROOMY, about="another log has the authority"
        ),
        answer.sized(
            "rejected_bytes", of=_sum("rejected_bytes"), priority=answer.ROOMY + 1, about="never crossed a boundary"
        ),
    )


def _sum(name: str) -> Callable[[Covered], int]:
    return lambda it: it[1].balance.get(name, 0)


def _missing(state: LogSourceState) -> int:
    return looking.count(state.missing) + state.unlisted


def state_of(state: LogSourceState, job: CoverageJob, now_s: int) -> str:
    """State of a source, in words; the worst first."""
    if state.ended_s and not state.missing:
        return "ended"
    if not state.came:
        return f"never delivered{f', {state.status}' if state.status else ''}"
    words = [
        "silent" if is_silent(state, job, now_s) else "",
        "gaps" if state.missing else "",
        "refuses lines" if is_refusing(state) else "",
        "unclassified" if is_unclassified(state, job.unclassified_permille) else "",
        f"delivery {state.status}" if state.status else "",
    ]
    return ", ".join(filter(None, words)) or "ok"


def list_answer(
    states: Sequence[LogSourceState],
    log_sources: Sequence[LogSource],
    elsewhere: Sequence[FlowLog],
    figures: LogFigures,
    job: CoverageJob,
    *,
    now_s: int,
) -> answer.Answer:
    """Convert sources of logs to the answer of `metering logs list`.

    The answer also lists configured log sources from which nothing came, and the context's flow logs that do not
    deliver to S3 (`elsewhere`).
    """
    known = {state.named for state in states}
    rows = [
        *(_listed(state, job, now_s) for state in states),
        *(
            (source.name, ", ".join(source.kinds), "", "nothing came", None, None, None, None, source.place)
            for source in log_sources
            if source.name not in known
        ),
        *(_unmetered(log) for log in elsewhere),
    ]
    looked = f"As of {rfc3339(figures.looked_s)}." if figures.looked_s else "Nothing has looked yet what came."
    footer = [f"{looked} To look now: metering logs coverage"] if rows else []
    if elsewhere:
        footer.append(
            "Flow logs that do not deliver to S3 cannot be metered: their streams have no files to count once. For the "
            "command that adds one to S3, which may stand beside it: `metering logs format`"
        )
    meta: dict[str, answer.Json] = {
        "as_of": rfc3339(figures.looked_s) if figures.looked_s else None,
        "context": rfc3339(figures.context_s) if figures.context_s else None,
    }
    empty = "No log source is known. To see what a bucket would give: metering ingest --dry-run s3://BUCKET/PREFIX"
    return _LIST.answer(rows, meta=meta, footer=tuple(footer), empty=empty)


def coverage_answer(
    rows: Iterable[tuple[LogSourceState, LogSums]],
    figures: LogFigures,
    job: CoverageJob,
    *,
    now_s: int,
    days: tuple[str, str],
    overlaps: Sequence[Overlap] | None = None,
    silent: Sequence[tuple[str, str]] | None = None,
) -> answer.Answer:
    """Convert received and missing files to the answer of `metering logs coverage`.

    `days` are the first and the last day that the sums cover. `overlaps` is None if overlaps were not searched for.
    `silent` are the gateways without lines, by resource and interface; None if they are unknown.
    """
    found, table = list(rows), _coverage(job, now_s)
    never = _never_delivered([state for state, _ in found])
    document: dict[str, answer.Json] = {
        "as_of": rfc3339(figures.looked_s),
        "from": days[0],
        "to": days[1],
        "missing_slots": sum(_missing(state) for state, _ in found),
        "never_delivered": [{"source": log, "shadows": [*sources]} for log, sources in never.items()],
        "rows": [_coverage_json(table.document(each), *each) for each in found],
    }
    footer = [
        f"{log} has the authority over lines of {', '.join(sources)}, and no file of it ever came: "
        "their bytes are metered nowhere."
        for log, sources in never.items()
    ]
    if overlaps is None and not figures.context_s and any(state.kind == "vpc-flow" for state, _ in found):
        footer.append("No context lists the flow logs. Did two meter the same? See: metering logs coverage --overlap")
    if overlaps is not None:
        document["overlaps"] = [_overlap_json(each) for each in overlaps]
        footer.append(_overlap_text(overlaps))
    if silent is not None:
        document["gateways_without_lines"] = [{"resource": one, "interface": other} for one, other in silent]
    if silent:
        named = ", ".join(dict.fromkeys(holder for holder, _ in silent[:_LOGS_SHOWN]))
        footer.append(
            f"{len(silent):,} interfaces of gateways and endpoints have no line ({named}): no flow log covers them, or "
            "they are idle. Processing is metered by their own lines alone."
        )
    reasons = _reasons([sums for _, sums in found])
    if reasons:
        footer.append(f"Unclassified, by reason: {reasons}.")
    return table.answer(
        found,
        document=document,
        footer=tuple(footer),
        empty="No log file was planned yet. To send some: metering ingest s3://BUCKET/PREFIX --since 1d",
        commands=tuple(dict.fromkeys(cure for state, _ in found if (cure := cure_of(state, now_s)))),
    )


def _overlap_json(found: Overlap) -> dict[str, answer.Json]:
    return {
        "hour": rfc3339(found.hour_s),
        "resource_id": found.resource_id,
        "bytes": {log: str(size) for log, size in found.bytes.items()},
    }


def _overlap_text(overlaps: Sequence[Overlap]) -> str:
    if not overlaps:
        return "No resource was metered from two flow logs in one hour."
    logs = sorted({log for each in overlaps for log in each.bytes})
    first = overlaps[0]
    return (
        f"{len({each.resource_id for each in overlaps}):,} resources were metered from two flow logs in one hour "
        f"({', '.join(logs[:_LOGS_SHOWN])}), such as {first.resource_id} at {rfc3339(first.hour_s)}: their bytes may "
        "be counted twice. A context that lists the flow logs prevents that."
    )


def cure_of(state: LogSourceState, now_s: int) -> str:
    """The command that sends a source's missing files; empty if no file is missing, or if their location is unknown."""
    if not state.missing or not state.place.startswith("s3://"):
        return ""
    hours = -(-(now_s - state.missing[0][0]) // 3_600) + 1
    return f"metering ingest {folder_of(state.place)} --since {hours}h"


def gaps_text(state: LogSourceState) -> str:
    """The first gaps as text: `2026-11-24T13:05:00Z, 2026-11-24T14:00:00Z to 2026-11-24T14:20:00Z and 3 more`."""
    shown = [
        rfc3339(first_s) if first_s == last_s else f"{rfc3339(first_s)} to {rfc3339(last_s + looking.SLOT_S)}"
        for first_s, last_s in state.missing[:_GAPS_SHOWN]
    ]
    more = len(state.missing) - len(shown)
    return ", ".join(shown) + (f" and {more} more" if more else "")


def share_text(part: int, whole: int) -> str:
    """A share in percent with one decimal place, rounded half up; empty if the whole is 0."""
    if not whole:
        return ""
    tenths = (2_000 * part + whole) // (2 * whole)
    return f"{tenths // 10}.{tenths % 10} %"


def _never_delivered(states: Sequence[LogSourceState]) -> dict[str, list[str]]:
    """Logs that shadow other sources but have never delivered a file, each with the sources that it shadows."""
    came = {state.source for state in states if state.came}
    found: dict[str, list[str]] = {}
    for state in states:
        for log in state.shadowed_by:
            if log not in came and log != "others":
                found.setdefault(log, []).append(state.source)
    return found


def _listed(state: LogSourceState, job: CoverageJob, now_s: int) -> tuple[str | int | None, ...]:
    said = (state.named, state.kind, state.source, state_of(state, job, now_s), state.newest_s, state.through_s)
    return (*said, state.account_id, state.region, state.place)


def _unmetered(log: FlowLog) -> tuple[str | None, ...]:
    return ("", "vpc-flow", log.id, _ELSEWHERE, None, None, log.account_id, log.region, log.destination)


def _coverage_json(row: dict[str, answer.Json], state: LogSourceState, sums: LogSums) -> dict[str, answer.Json]:
    balance: dict[str, answer.Json] = {name: sums.balance.get(name, 0) for name in ("lines", *reading.OUTCOMES)}
    stated = {f"{name}_bytes": str(sums.balance.get(f"{name}_bytes", 0)) for name in ("stated", "refused")}
    return {
        **{name: value for name, value in row.items() if name not in _SIZES},
        **{name: str(row[name]) for name in _SIZES},
        "account_id": state.account_id,
        "region": state.region,
        "place": state.place,
        "log_source": state.named,
        "gaps": [[rfc3339(first_s), rfc3339(last_s + looking.SLOT_S)] for first_s, last_s in state.missing],
        "unlisted_slots": state.unlisted,
        "ended": rfc3339(state.ended_s) if state.ended_s else None,
        "balance": {**balance, **stated},
        "unclassified_by_reason": {reason: str(size) for reason, size in sorted(sums.unclassified.items())},
        "refused_by_reason": dict(sorted(sums.refusals.items())),
        "shadowed_by": {log: str(size) for log, size in sorted(sums.shadowed.items())},
    }


def _reasons(all_sums: Sequence[LogSums]) -> str:
    total: dict[str, int] = {}
    for sums in all_sums:
        for reason, size in sums.unclassified.items():
            total[reason] = total.get(reason, 0) + size
    metered = sum(sums.balance.get("metered_bytes", 0) for sums in all_sums)
    order = sorted(total, key=lambda reason: (-total[reason], reason))
    return ", ".join(f"{reason} {share_text(total[reason], metered)}" for reason in order)


_SCHEME = "flow:"
_QUERY = ports.RowQuery(columns=("batch_id", "resource_id"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Overlap:
    """A resource whose traffic in one hour is in more than one flow log; its usage by flow log."""

    hour_s: int
    resource_id: str
    bytes: dict[str, int]


def overlaps(view: LakeView, hours: Iterable[int]) -> Iterator[Overlap]:
    """Yield the overlaps of each hour, in the order of the hours. Holds the resources of one hour in memory.

    Raises:
        UnavailableError: An hour changed too often while it was read.
    """
    for hour_s in hours:
        found: dict[str, dict[str, int]] = defaultdict(dict)
        for (batch_id, resource_id), total in view.hour_totals(hour_s, _QUERY).items():
            log = flow_log_of(str(batch_id))
            if log:
                known = found[str(resource_id)]
                known[log] = known.get(log, 0) + total.bytes
        for resource_id, sizes in sorted(found.items()):
            if len(sizes) > 1:
                yield Overlap(hour_s=hour_s, resource_id=resource_id, bytes=dict(sorted(sizes.items())))


def flow_log_of(batch_id: str) -> str:
    """The flow log from which a batch was made; empty for any other batch."""
    if not batch_id.startswith(_SCHEME):
        return ""
    name = reading.flow_log_name(batch_id.removeprefix(_SCHEME).rpartition("/")[0])
    return "" if name is None else name.source
