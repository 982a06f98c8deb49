"""Status of one region on one page, by the same thresholds as the alarms.

Figures come from notes of jobs, both queues, CloudWatch's alarms and the first waiting commits. Nothing is scanned.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from decimal import Decimal
from enum import StrEnum
from typing import TYPE_CHECKING

from metering.audit.freshness import STALE_S, Complete, Freshness, duration
from metering.hours import month_bounds_s, month_of, rfc3339
from metering.intake.work import FULL_RECORDS
from metering.ledger.notes.reconciliation import RECONCILIATION_KEY, Reconciliation
from metering.ledger.notes.watch import FIGURES_KEY, WatchFigures
from metering.ledger.periods import periods_of
from metering.operations.alarms import ALARMS, LOG_FIGURES, AlarmSpec, Figure, alarm_name
from metering.stores import writes
from metering.units import DAY_S, MINUTE_S

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from metering.billing.day_sums.keeper import DaySumKeeper
    from metering.operations import logged_errors
    from metering.stores import queues
    from metering.stores.clock import Clock

# After this long without a measurement, the alarm `watch-silent` pages someone.
SILENT_S = 15 * MINUTE_S
_CENT = Decimal("0.01")
_MONTHS = 13
_MONTHS_SHOWN = 3


class Standing(StrEnum):
    """State of a status line: good, needs a look in the morning, or needs action now."""

    OK = "ok"
    ATTENTION = "attention"
    ACT = "act"


_WORSE = (Standing.OK, Standing.ATTENTION, Standing.ACT)


@dataclass(frozen=True, slots=True, kw_only=True)
class StatusLine:
    """State of one thing.

    Attributes:
        value: Its figures, in words.
        cure: Command that solves the problem, or name of the problem's runbook; empty if the state is `OK`.
    """

    what: str
    state: Standing
    value: str
    cure: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class RegionStatus:
    """Status of a region.

    Attributes:
        version: Deployed version; empty if the deployment does not state it.
        periods: State of each recent month, newest first.
        firing: Names of alarms in state `ALARM`.
        figures: Figures of the watch's last run; empty if the watch never ran.
        lines: For people, in order.
    """

    region: str
    version: str
    complete: Complete
    periods: Mapping[str, str]
    firing: tuple[str, ...]
    figures: Mapping[str, int]
    lines: tuple[StatusLine, ...]

    @property
    def needs_a_person(self) -> bool:
        return any(line.state is Standing.ACT for line in self.lines)


@dataclass(frozen=True, slots=True, kw_only=True)
class StatusReader:
    """Reads the status of one region.

    Attributes:
        version: The deployed version; empty if the deployment published no version.
        batch_usd: Cost of a batch that does not depend on its records.
        sums: Computes the accepted usage that budgets do not include yet. If None, such usage is not shown.
    """

    items: writes.ItemStore
    ingest: queues.Queue
    dead: queues.Queue
    queue_facts: queues.QueueFacts
    clock: Clock
    freshness: Freshness
    alarms: logged_errors.DeployedAlarms
    subscribers: logged_errors.Subscribers
    region: str
    stage: str
    version: str
    batch_usd: Decimal
    sums: DaySumKeeper | None = None

    def read(self) -> RegionStatus:
        """Read everything once.

        Raises:
            UnavailableError: Something gives no answer.
        """
        known = writes.read_note(self.items, FIGURES_KEY, WatchFigures.from_item)
        figures = {} if known is None else known.figures
        lines = {**_LINES, **(_LOG_LINES if LOG_FIGURES & figures.keys() else {})}
        lines |= _BILL_LINES if Figure.BILL_DIFFERENCES in figures else {}
        complete = self.freshness.answer()
        now_s = self.clock.now_ms() // 1000
        periods = self._periods(now_s)
        alight = {alarm.name for alarm in self.alarms.states() if alarm.state == "ALARM"}
        firing = [spec for spec in ALARMS if alarm_name(self.stage, spec.name) in alight]
        return RegionStatus(
            region=self.region,
            version=self.version,
            complete=complete,
            periods=periods,
            firing=tuple(spec.name for spec in firing),
            figures=figures,
            lines=(
                StatusLine(what="version", state=Standing.OK, value=self.version or "not published"),
                _completeness(complete, None if known is None else max(now_s - known.measured_s, 0)),
                self._queue(),
                self._dead_letters(),
                *(self._with_reach(_figure_line(what, words, figures)) for what, words in lines.items()),
                self._batches(now_s),
                self._watch(known, now_s),
                _alarms(firing),
                self._months(periods),
                self._pager(),
            ),
        )

    def _with_reach(self, line: StatusLine) -> StatusLine:
        """Add usage not yet in budgets to the line about money: the biller counts only published lake files."""
        if line.what != "money" or self.sums is None:
            return line
        left = self.sums.reach().left
        lacks = "" if left is None else left.text
        return replace(line, value=f"{line.value}, not counted yet: {lacks}") if lacks else line

    def _queue(self) -> StatusLine:
        depth = self.ingest.depth()
        age_s = self.queue_facts.oldest_age_s() if depth.total else None
        limit_s = next(spec.threshold for spec in ALARMS if spec.metric == Figure.OLDEST_BATCH_AGE)
        late = age_s is not None and age_s >= limit_s
        oldest = "" if age_s is None else f", the oldest for {duration(age_s)}"
        return StatusLine(
            what="queue",
            state=Standing.ACT if late else Standing.OK,
            value=_depth(depth) + oldest,
            cure="runbook oldest-batch" if late else "",
        )

    def _dead_letters(self) -> StatusLine:
        dead = self.dead.depth().total
        return StatusLine(
            what="dead letters",
            state=Standing.ACT if dead else Standing.OK,
            value=f"{dead:,}",
            cure=f"metering dlq list --region {self.region} --stage {self.stage}" if dead else "",
        )

    def _batches(self, now_s: int) -> StatusLine:
        """Records of a batch since yesterday, as quick passes counted, and what full batches would save."""
        seen = writes.read_note(self.items, RECONCILIATION_KEY, Reconciliation.from_item)
        if seen is None or not (seen.batches or seen.batches_before) or now_s - seen.day_s >= 2 * DAY_S:
            return StatusLine(what="batches", state=Standing.OK, value="not counted in the last two days")
        batches, records = seen.batches_before + seen.batches, seen.records_before + seen.records
        days = Decimal(now_s - seen.day_s + (DAY_S if seen.batches_before else 0)) / DAY_S
        fewer = max(batches - Decimal(records) / FULL_RECORDS, Decimal(0))
        usd = fewer / days * self.batch_usd if days else Decimal(0)
        saves = f"; {FULL_RECORDS:,} would save about {usd:,.2f} USD a day" if usd >= _CENT else ""
        return StatusLine(
            what="batches",
            state=Standing.OK,
            value=f"{Decimal(records) / batches:,.0f} records a batch in an hour{saves}",
        )

    def _watch(self, known: WatchFigures | None, now_s: int) -> StatusLine:
        if known is None:
            return StatusLine(
                what="watch",
                state=Standing.ATTENTION,
                value="has left no figures: it never ran, or is of an earlier version",
                cure="runbook watch-silent",
            )
        age_s = max(now_s - known.measured_s, 0)
        state = Standing.OK
        if age_s > STALE_S:
            state = Standing.ACT if age_s > SILENT_S else Standing.ATTENTION
        return StatusLine(
            what="watch",
            state=state,
            value=f"measured {duration(age_s)} ago",
            cure="" if state is Standing.OK else "runbook watch-silent",
        )

    def _periods(self, now_s: int) -> dict[str, str]:
        months = [month_of(now_s)]
        while len(months) < _MONTHS:
            months.append(month_of(month_bounds_s(months[-1])[0] - 1))
        known = periods_of(self.items, months)
        return {month: known[month].state if month in known else "open" for month in months}

    def _months(self, periods: Mapping[str, str]) -> StatusLine:
        closing = [month for month, state in periods.items() if state == "closing"]
        shown = [*list(periods)[:_MONTHS_SHOWN], *(month for month in closing if month not in list(periods)[:3])]
        cure = f"metering period close {closing[-1]} --region {self.region} --stage {self.stage}" if closing else ""
        return StatusLine(
            what="months",
            state=Standing.ATTENTION if closing else Standing.OK,
            value=", ".join(f"{month} {periods[month]}" for month in shown),
            cure=cure,
        )

    def _pager(self) -> StatusLine:
        confirmed = sum(each.alerted for each in self.subscribers.subscribers("page"))
        return StatusLine(
            what="pager",
            state=Standing.OK if confirmed else Standing.ATTENTION,
            value=f"{confirmed:,} confirmed" if confirmed else "nobody would be paged",
            cure="" if confirmed else f"metering alerts test --region {self.region} --stage {self.stage}",
        )


def _completeness(complete: Complete, age_s: int | None) -> StatusLine:
    """Show the time up to which usage is complete. Causes of a delay were measured `age_s` ago, and may be resolved."""
    through = f"through {rfc3339(complete.through_s)}" if complete.through_s else "not known yet"
    held = "; ".join(each.what for each in complete.held_back_by)
    unusual = [each for each in complete.held_back_by if not each.usual]
    when = "" if age_s is None else f" (as of {duration(age_s)} ago)"
    return StatusLine(
        what="complete",
        state=Standing.ATTENTION if unusual else Standing.OK,
        value=f"{through}, held back by {held}{when}" if held else through,
        cure=unusual[0].cure if unusual else "",
    )


def _alarms(firing: Sequence[AlarmSpec]) -> StatusLine:
    paging = any(spec.severity == "page" for spec in firing)
    state = Standing.OK
    if firing:
        state = Standing.ACT if paging else Standing.ATTENTION
    return StatusLine(
        what="alarms",
        state=state,
        value=", ".join(spec.name for spec in firing) or "none fires",
        cure=", ".join(dict.fromkeys(f"runbook {spec.runbook}" for spec in firing)),
    )


# Name of a line -> its figures, each with its text. Figures in seconds are shown as durations.
_LINES: Mapping[str, Mapping[Figure, str]] = {
    "roll-up": {
        Figure.WAITING_COMMITS: "commits that wait: {}",
        Figure.WAITING_COMMIT_AGE: "the oldest for {}",
        Figure.PLANNED_ROLLUP_AGE: "a run is planned for {}",
        Figure.ACCOUNTS_BEYOND_CAP: "accounts with kinds beyond the cap: {}",
    },
    "compactor": {
        Figure.UNPUBLISHED_HOURS: "hours with rows in staging only: {}",
        Figure.OLDEST_PENDING_AGE: "the oldest for {}",
        Figure.PLANNED_RUN_AGE: "a run is planned for {}",
    },
    "cleaners": {
        Figure.CLEANING_OVERDUE_AGE: "the oldest run is overdue for {}",
        Figure.ORPHANS_UNSEEN_AGE: "orphans looked for {} ago",
    },
    "reconciler": {
        Figure.RECONCILIATION_DIFFERENCES: "hours that differ: {}",
        Figure.RECONCILIATION_AGE: "nothing finished for {}",
        Figure.RECONCILIATION_BACKLOG: "hours and files that wait: {}",
        Figure.RECONCILIATION_BACKLOG_AGE: "the oldest for {}",
        Figure.SCAN_OVERDUE_AGE: "the scan of everything is due for {}",
    },
    "canary": {Figure.CANARY_AGE: "none good for {}", Figure.CANARY_DOUBLED: "{} doubled"},
    "sources": {
        Figure.SOURCE_GAPS: "gaps: {}",
        Figure.SILENT_SOURCES: "silent: {}",
        Figure.INCREDIBLE_SOURCES: "with incredible numbers: {}",
        Figure.UNKEPT_SOURCES: "not followed: {}",
    },
    "conflicts": {Figure.CONFLICTS: "{} in the last two hours"},
    "drops": {Figure.LOST_DROPS: "never announced: {}", Figure.DROPS_UNSEEN_AGE: "looked {} ago"},
    "money": {
        Figure.BILLER_AGE: "what was published up to {} ago is counted",
        Figure.UNPRICED_BYTES: "bytes without a price: {}",
        Figure.INVOICES_BLOCKED: "months that cannot be invoiced: {}",
        Figure.BUDGETS_CROSSED: "alerts of budgets in the last two hours: {}",
    },
    "markers": {Figure.MARKER_LIFE_HEADROOM: "live {} longer than needed"},
}
# Only a region with log sources has these lines.
_LOG_LINES: Mapping[str, Mapping[Figure, str]] = {
    "logs": {
        Figure.LOG_SLOTS_MISSING: "missing slots: {}",
        Figure.LOG_SOURCE_SILENT: "silent sources: {}",
        Figure.LOG_LINES_REFUSED: "refusing lines: {}",
        Figure.LOG_BYTES_UNCLASSIFIED: "unclassified: {}",
        Figure.LOG_CONTEXT_AGE: "context of {} ago",
    }
}
_BILL_LINES: Mapping[str, Mapping[Figure, str]] = {"aws bill": {Figure.BILL_DIFFERENCES: "rows that differ: {}"}}
_IN_SECONDS = frozenset(figure for figure in Figure if figure.endswith(("Age", "Headroom")))
# Figures that are hidden if their value is 0.
_SILENT_AT_0 = frozenset({
    Figure.WAITING_COMMIT_AGE, Figure.PLANNED_ROLLUP_AGE, Figure.ACCOUNTS_BEYOND_CAP, Figure.OLDEST_PENDING_AGE,
    Figure.PLANNED_RUN_AGE, Figure.CLEANING_OVERDUE_AGE, Figure.RECONCILIATION_BACKLOG_AGE, Figure.SCAN_OVERDUE_AGE,
    Figure.CANARY_DOUBLED, Figure.INCREDIBLE_SOURCES, Figure.UNKEPT_SOURCES, Figure.LOG_SOURCE_SILENT,
    Figure.LOG_LINES_REFUSED, Figure.LOG_BYTES_UNCLASSIFIED, Figure.UNPRICED_BYTES, Figure.INVOICES_BLOCKED,
    Figure.BUDGETS_CROSSED,
})  # fmt: skip


def _figure_line(what: str, words: Mapping[Figure, str], figures: Mapping[str, int]) -> StatusLine:
    """Status line for figures of the watch; its state is derived from their alarms."""
    missing = [figure for figure in words if figure not in figures]
    fired = [
        spec
        for figure in words
        for spec in ALARMS
        if figure in figures and spec.metric == figure and spec.breached_by(figures[figure])
    ]
    states = [Standing.ACT if spec.severity == "page" else Standing.ATTENTION for spec in fired]
    if missing:
        states.append(Standing.ATTENTION)
    told = [_told(figure, text, figures[figure]) for figure, text in words.items() if figure in figures]
    cures = [f"runbook {spec.runbook}" for spec in fired] or (["runbook watch-errors"] if missing else [])
    return StatusLine(
        what=what,
        state=max(states, key=_WORSE.index, default=Standing.OK),
        value=", ".join([*filter(None, told), *(["not measured"] if missing else [])]),
        cure=", ".join(dict.fromkeys(cures)),
    )


def _told(figure: Figure, text: str, value: int) -> str:
    if value == 0 and figure in _SILENT_AT_0:
        return ""
    return text.format(duration(value) if figure in _IN_SECONDS else f"{value:,}")


def _depth(depth: queues.QueueDepth) -> str:
    if not depth.total:
        return "empty"
    parts = {"visible": depth.visible, "in flight": depth.in_flight, "delayed": depth.delayed}
    return ", ".join(f"{count:,} {name}" for name, count in parts.items() if count)
