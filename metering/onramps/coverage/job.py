"""The coverage job finds files that were expected from a source of logs but did not arrive.

The job runs every 5 minutes, and on `metering logs coverage`. Each run checks the sources whose last check is the
oldest. Requests a day at 1,000 flow logs: 72,000 LISTs for 250 checks a run, 24,000 LISTs for the search for new
sources, and 288,000 GETs, because each plan is read once. Including the notes, all requests cost about 1 USD a day at
us-east-1 list prices. Each flow log is then checked every 20 minutes; at 10,000 flow logs, every half hour.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from itertools import islice
from typing import TYPE_CHECKING, NamedTuple, Protocol

from metering.errors import UnavailableError
from metering.ledger.notes.log_sources import (
    LOG_RULING_PK,
    LOG_SOURCE_PK,
    LOG_SOURCES_KEY,
    LogFigures,
    LogRuling,
    LogRulingKind,
    LogSourceState,
)
from metering.onramps import plans
from metering.onramps.coverage.looking import LookAt, SourceLook, count
from metering.onramps.sources import LogSource, source_of
from metering.stores.objects import PLANS_PREFIX, ObjectStore
from metering.stores.writes import Put, Table
from metering.units import DAY_S, HOUR_S, MINUTE_S

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Mapping, Sequence

    from metering.onramps.context.document import Context, FlowLog
    from metering.stores.clock import Clock

# S3 destination of a flow log as returned by `DescribeFlowLogs`: the bucket, and the folder if there is one.
_S3_ARN = re.compile(r"arn:[a-z0-9-]+:s3:::(?P<bucket>[^/]+)/?(?P<prefix>.*)")


def delivers_to_s3(log: FlowLog) -> bool:
    """Whether a flow log delivers to a bucket."""
    return _S3_ARN.fullmatch(log.destination) is not None


def failure_of(log: FlowLog) -> str:
    """`DeliverLogsStatus` of a flow log if it is not `SUCCESS`; empty if it is, or if unknown."""
    return "" if log.delivery_status == "SUCCESS" else log.delivery_status


def place_of_log(log: FlowLog) -> str:
    """Location of a flow log's files, `s3://bucket/prefix/AWSLogs/`; the destination itself if not in S3.

    AWS puts `AWSLogs` below the folder of the destination. A Hive layout has other folders below `AWSLogs`.
    """
    found = _S3_ARN.fullmatch(log.destination)
    if found is None:
        return log.destination
    folder = found["prefix"].strip("/")
    return f"s3://{found['bucket']}/{folder + '/' if folder else ''}AWSLogs/"


def logs_of_stage(context: Context | None, sources: Sequence[LogSource]) -> Iterator[tuple[FlowLog, LogSource]]:
    """Flow logs that deliver to a log source of the stage, each with this log source."""
    for log in context.flow_logs.values() if context is not None else ():
        bucket, key = split_place(place_of_log(log))
        source = source_of(sources, bucket, key) or _containing(sources, bucket, key)
        if source is not None and delivers_to_s3(log) and "vpc-flow" in source.kinds:
            yield log, source


def _containing(sources: Sequence[LogSource], bucket: str, key: str) -> LogSource | None:
    """Log source whose prefix is below the folder, for example of one account or region."""
    return next((each for each in sources if each.bucket == bucket and each.prefix.startswith(key)), None)


def split_place(place: str) -> tuple[str, str]:
    """Bucket and key of `s3://bucket/key`; two empty strings for any other text."""
    if not place.startswith("s3://"):
        return "", ""
    bucket, _, key = place.removeprefix("s3://").partition("/")
    return bucket, key


def folder_of(place: str) -> str:
    """Folder of an S3 location, truncated before the day; the parent folder if the location has no day."""
    head, found, _ = re.sub(r"(/year=|/\d{4}/\d{2}/).*", r"\0", place).partition("\0")
    return f"{head}/" if found else place.rpartition("/")[0] + "/"


# An alarm is raised above this number of refused lines per 1,000 lines.
REFUSED_PERMILLE = 10
# A source without a file for this long counts as silent: a flow log writes a file every 5 minutes, other sources when
# there is traffic. A source that has never delivered a file has one hour from the time when it was first expected.
SILENT_S = 2 * HOUR_S
SILENT_UNSLOTTED_S = DAY_S
NEVER_S = HOUR_S


class Judges(Protocol):
    """Settings of the coverage job that the figures depend on."""

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
    """Compute the current figures of all sources."""
    of_stage = [state for state in states if state.named]
    held = [(since_s, state) for state in of_stage if (since_s := held_since_s(state, job, now_s)) is not None]
    # If a source was silent for the whole window, its slots are unknown, so none of them count as missing.
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
    """Time up to which a source with slots is complete; None if the source holds nothing back."""
    if not job.slotted(state.kind) or (state.ended_s and not state.missing):
        return None
    if not state.came:
        return max(state.expected_s, now_s - job.window_s) if state.expected_s and not state.ended_s else None
    return now_s - job.window_s if state.through_s is None else max(state.through_s, now_s - job.window_s)


def is_silent(state: LogSourceState, job: Judges, now_s: int) -> bool:
    """Whether a source that should deliver has been silent for too long."""
    if state.ended_s:
        return False
    if not state.came:
        return bool(state.expected_s) and now_s - state.expected_s >= NEVER_S
    if job.slotted(state.kind):
        return state.newest_s is None or now_s - state.newest_s >= SILENT_S
    return now_s - state.planned_s >= SILENT_UNSLOTTED_S


def is_refusing(state: LogSourceState) -> bool:
    """Whether more than 1 % of a source's lines of the last two days were refused."""
    return state.recently("refused") * 1000 > REFUSED_PERMILLE * state.recently("lines")


def is_unclassified(state: LogSourceState, permille: int) -> bool:
    """Whether the unclassified share of a source's bytes of the last two days exceeds the stage's limit."""
    return state.recently("unclassified_bytes") * 1000 > permille * state.recently("metered_bytes")


def _empty(states: Sequence[LogSourceState], log_sources: Sequence[LogSource], before: LogFigures, now_s: int) -> int:
    """Number of configured log sources without a known source of logs; 0 in the first day after the first run."""
    if now_s - (before.first_run_s or now_s) < DAY_S:
        return 0
    known = {state.named for state in states}
    return sum(source.name not in known for source in log_sources)


# The character that follows the slash: it sorts after every key of a source and before the next source.
_BEHIND = chr(ord("/") + 1)


class FoundSources(NamedTuple):
    """Sources found by a search: kind and source, from the keys of plans.

    The next search continues after the key `after`, which is empty at the end.
    """

    sources: tuple[tuple[str, str], ...]
    after: str


def find_sources(objects: ObjectStore, *, after: str, most: int) -> FoundSources:
    """Find at most `most` sources in the data bucket, one LIST each, from `after` on."""
    found: list[tuple[str, str]] = []
    while len(found) < most:
        info = next(iter(objects.list(PLANS_PREFIX, after=after)), None)
        if info is None:
            return FoundSources(sources=tuple(found), after="")
        if info.key.startswith(plans.PLACES_PREFIX):
            after = plans.PLACES_PREFIX.removesuffix("/") + _BEHIND
            continue
        kind, _, rest = info.key.removeprefix(PLANS_PREFIX).partition("/")
        source, inner, _ = rest.partition("/")
        if kind and inner:
            found.append((kind, source))
        after = f"{PLANS_PREFIX}{kind}/{source}{_BEHIND}" if inner else info.key
    return FoundSources(sources=tuple(found), after=after)


# Minimum number of sources per run, and the time within which every source is examined, however many there are.
LOOKS = 250
ROUND_S = 30 * MINUTE_S
EVERY_S = 5 * MINUTE_S
# Time limit of a run; the next run continues with the remaining sources.
TIME_S = 4 * MINUTE_S
SEARCH_EVERY_S = HOUR_S
_RULINGS_READ = 10_000
# A context without the flow log was captured up to an hour before it applies, and the previous context up to an hour
# earlier: the flow log was deleted between the two captures.
_DELETED_BEFORE_S = 2 * HOUR_S


@dataclass(frozen=True, slots=True, kw_only=True)
class Rulings:
    """Operators' rulings on one source."""

    accepted: tuple[tuple[int, int], ...] = ()
    forgotten_s: int = 0


def _ended_s(state: LogSourceState, context: Context | None) -> int:
    """Time when the newest context shows a flow log as deleted; 0 if the flow log exists, or if unknown."""
    if context is None or not state.expected_s or (state.account_id, state.region) not in context.places:
        return 0
    if state.source in context.flow_logs:
        return 0
    return state.ended_s or max(context.effective_s - _DELETED_BEFORE_S, 0)


@dataclass(frozen=True, slots=True, kw_only=True)
class CoverageJob(SourceLook):
    """Maintains the state of each source of logs, and the figures of all sources.

    Attributes:
        kinds: Kind -> age from which its files are complete; None for kinds with slots. Other kinds have no slots.
        unclassified_permille: Share of a source's bytes that may be unclassified before an alarm.
    """

    clock: Clock
    kinds: Mapping[str, int | None]
    log_sources: Sequence[LogSource]
    newest_context: Callable[[], Context | None]
    unclassified_permille: int
    time_s: int = TIME_S

    def run(
        self, now_s: int, *, whole: bool = False, tell: Callable[[int, int], object] = lambda _done, _all: None
    ) -> LogFigures:
        """Check due sources, and store their states and sums.

        Args:
            now_s: Current time, epoch seconds.
            whole: Check every source, and all files that can still be metered, without a time limit.
            tell: Called with the number of checked sources and the number of all sources to check.

        Raises:
            UnavailableError: The ledger or the context cannot be read now. Stored states stay valid.
        """
        before = self.figures() or LogFigures(looked_s=0, first_run_s=now_s)
        context = self.newest_context()
        states = {(each.kind, each.source): each for each in self.states()}
        found_after, found_s = self._search(states, before, now_s, whole=whole)
        self._expect(states, context, now_s)
        due = sorted(states.values(), key=lambda each: each.looked_s)
        if not whole:
            due = due[: max(LOOKS, -(-len(due) * EVERY_S // ROUND_S))]
        rulings = self._rulings()
        until_ms = self.clock.now_ms() + self.time_s * 1000
        for number, state in enumerate(due):
            if not whole and self.clock.now_ms() >= until_ms:
                break
            tell(number, len(due))
            key = (state.kind, state.source)
            ruled = rulings.get(key, Rulings())
            at = LookAt(
                now_s=now_s,
                slotted=self.slotted(state.kind),
                whole=whole,
                accepted=ruled.accepted,
                forgotten_s=ruled.forgotten_s,
                ended_s=_ended_s(state, context),
            )
            states[key] = self._looked(state, at)
        figures = replace(
            figures_of(states.values(), self.log_sources, before=before, job=self, now_s=now_s),
            context_s=0 if context is None else context.effective_s,
            found_after=found_after,
            found_s=found_s,
        )
        self.items.put(Put(table=Table.LEDGER, item=figures.to_item()))
        return figures

    def figures(self) -> LogFigures | None:
        item = self.items.get(Table.LEDGER, LOG_SOURCES_KEY)
        return None if item is None else LogFigures.from_item(item)

    def states(self) -> list[LogSourceState]:
        return [LogSourceState.from_item(item) for item in self.items.query(Table.LEDGER, LOG_SOURCE_PK)]

    def slotted(self, kind: str) -> bool:
        """Whether a slot without a file is a gap."""
        return kind in self.kinds and self.kinds[kind] is None

    def _search(
        self, states: dict[tuple[str, str], LogSourceState], before: LogFigures, now_s: int, *, whole: bool
    ) -> tuple[str, int]:
        """Find new sources; return the key where the search stopped, and the time of the last finished search."""
        if not whole and not before.found_after and now_s - before.found_s < SEARCH_EVERY_S and states:
            return "", before.found_s
        after = "" if whole else before.found_after
        while True:
            found = find_sources(self.objects, after=after, most=LOOKS)
            for kind, source in found.sources:
                states.setdefault((kind, source), LogSourceState(kind=kind, source=source))
            if not found.after:
                return "", now_s
            after = found.after
            if not whole:
                return after, before.found_s

    def _expect(self, states: dict[tuple[str, str], LogSourceState], context: Context | None, now_s: int) -> None:
        for log, source in logs_of_stage(context, self.log_sources):
            key = ("vpc-flow", log.id)
            state = states.get(key, LogSourceState(kind=key[0], source=key[1]))
            states[key] = replace(
                state,
                account_id=state.account_id or log.account_id,
                region=state.region or log.region,
                place=state.place or place_of_log(log),
                named=state.named or source.name,
                expected_s=state.expected_s or now_s,
                status=failure_of(log),
            )

    def _looked(self, state: LogSourceState, at: LookAt) -> LogSourceState:
        try:
            seen = self.look(state, at)
        except UnavailableError:
            # An error in one source does not stop the run for the others. The source with the error still has the
            # oldest look, so the next run begins with it.
            return state
        seen = self._named(seen, before=state)
        self.items.put(Put(table=Table.LEDGER, item=seen.to_item() | {"expires_at": at.now_s + self.keep_s}))
        return seen

    def _named(self, seen: LogSourceState, *, before: LogSourceState) -> LogSourceState:
        """Add the name of the configured log source to a state.

        The destination of a flow log never changes. A copy from another place does not move the state to another log
        source; otherwise, this source would hold back no report.
        """
        source = source_of(self.log_sources, *split_place(seen.place))
        if source is None and (kept := source_of(self.log_sources, *split_place(before.place))) is not None:
            return replace(seen, place=before.place, named=kept.name)
        if source is not None or seen.came:
            return replace(seen, named="" if source is None else source.name)
        return seen

    def _rulings(self) -> dict[tuple[str, str], Rulings]:
        """Rulings by kind and source. Operators create rulings by hand, and old rulings expire."""
        found: dict[tuple[str, str], Rulings] = {}
        for item in islice(self.items.query(Table.LEDGER, LOG_RULING_PK), _RULINGS_READ):
            ruling = LogRuling.from_item(item)
            known = found.get((ruling.kind, ruling.source), Rulings())
            if ruling.ruling is LogRulingKind.FORGET:
                known = replace(known, forgotten_s=max(known.forgotten_s, ruling.at_s))
            else:
                known = replace(known, accepted=(*known.accepted, (ruling.first_s, ruling.last_s)))
            found[ruling.kind, ruling.source] = known
        return found
