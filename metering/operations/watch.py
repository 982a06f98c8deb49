"""Watch: reads durable state and publishes the figures that alarms compare."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, replace
from itertools import islice
from typing import TYPE_CHECKING

from metering.errors import UnavailableError
from metering.hours import rfc3339
from metering.intake.admission import shortest_marker_life_s
from metering.ledger import commits, markers
from metering.ledger.notes import log_sources, money
from metering.ledger.notes.checks import CANARY_PK, DROPS_KEY, CanaryRun, CanaryVerdict, DroppedObjects, canary_key
from metering.ledger.notes.lake import ORPHANS_KEY, Cleaning, LakeFigures, OrphanPasses, cleanings, lake_figures
from metering.ledger.notes.reconciliation import RECONCILIATION_KEY, SOURCES_KEY, Reconciliation, SourceFigures
from metering.ledger.notes.watch import WATCH_KEY, WatchFigures, WatchState
from metering.ledger.runs import Contradictions, lake_chain, newest_run, rollup_chain
from metering.ledger.usage.kinds import BEYOND_CAP_PK, KindsBeyondCap
from metering.operations.alarms import Figure
from metering.stores.writes import ItemStore, Put, Table, read_note
from metering.units import HOUR_S, MINUTE_S

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from metering.audit.freshness import Freshness
    from metering.stores import queues
    from metering.stores.clock import Clock, Gauges

# Conflicts and doubled canaries raise an alarm for this long. After that, the alarm clears itself.
RECENT_S = 2 * HOUR_S
# In each run, every few minutes, the compactor lists pending rows before the cleaners run.
LISTED_LATE_S = 30 * MINUTE_S
# One run reads at most this many notes of each kind, newest first. Senders must not determine how long the watch takes.
_NOTES_READ = 2_000
_MONEY = (Figure.UNPRICED_BYTES, Figure.INVOICES_BLOCKED, Figure.BUDGETS_CROSSED)


@dataclass(frozen=True, slots=True, kw_only=True)
class Watch:
    """Measures all figures once, and publishes the figures.

    Attributes:
        freshness: Computes and stores the completeness that reports state.
        shards: Compaction shards of the stage.
        window_s: Admission window of the stage.
        marker_life_s: Lifetime of a marker after acceptance.
    """

    items: ItemStore
    ingest: queues.Queue
    dead: queues.Queue
    queue_facts: queues.QueueFacts
    gauges: Gauges
    clock: Clock
    freshness: Freshness
    shards: int
    window_s: int
    marker_life_s: int

    def run(self) -> Mapping[Figure, int]:
        """Measure and publish. If a figure could not be measured, the heartbeat is omitted, so that its alarm fires.

        Raises:
            UnavailableError: The figures could not be published.
            LedgerCorruptError: An item cannot be read. Figures that do not depend on this item were published.
        """
        figures: dict[Figure, int] = {}
        contradictions = Contradictions()
        measured = 0
        measures = self._measures()
        for measure in measures:
            with suppress(UnavailableError), contradictions.noted():
                figures |= measure()
                measured += 1
        if measured == len(measures):
            figures[Figure.HEARTBEAT] = 1
        # This note is for `metering status`. Alarms need none.
        note = WatchFigures(measured_s=self._now_s(), figures={each.value: value for each, value in figures.items()})
        with suppress(UnavailableError):
            self.items.put(Put(table=Table.LEDGER, item=note.to_item()))
        self.gauges.publish({figure.value: value for figure, value in figures.items()})
        contradictions.tell()
        return figures

    def _measures(self) -> tuple[Callable[[], dict[Figure, int]], ...]:
        return (
            lambda: {Figure.DEAD_LETTERS: self.dead.depth().total},
            self._oldest_batch,
            self._canary,
            self._waiting,
            self._pending,
            self._runs,
            self._cleaning,
            self._reconciliation,
            self._conflicts,
            self._drops,
            self._kinds,
            self._headroom,
            self._sources,
            self._logs,
            self._money,
            self._bills,
        )

    def _state(self) -> WatchState:
        state = read_note(self.items, WATCH_KEY, WatchState.from_item)
        if state is None:
            # In the first run, the queue was never seen empty, so its messages may have any age.
            state = WatchState(first_s=self._now_s(), queue_empty_s=0)
            self.items.put(Put(table=Table.LEDGER, item=state.to_item()))
        return state

    def _oldest_batch(self) -> dict[Figure, int]:
        """Age reported by SQS; else the time since the queue was empty, a canary passed, or the watch began."""
        state = self._state()
        if self.ingest.depth().total == 0:
            seen = replace(state, queue_empty_s=self._now_s())
            self.items.put(Put(table=Table.LEDGER, item=seen.to_item()))
            return {Figure.OLDEST_BATCH_AGE: 0}
        age_s = self.queue_facts.oldest_age_s()
        if age_s is None:
            good = self._last_good_canary()
            passed_s = max(state.first_s, state.queue_empty_s, 0 if good is None else good.sent_s)
            age_s = self._now_s() - passed_s
        return {Figure.OLDEST_BATCH_AGE: max(age_s, 0)}

    def _canary(self) -> dict[Figure, int]:
        state = self._state()
        good = self._last_good_canary()
        since_s = state.first_s if good is None else max(good.settled_s, state.first_s)
        recent = canary_key(self._now_s() - RECENT_S).sk
        notes = self.items.query(Table.LEDGER, CANARY_PK, sk_from=recent, descending=True)
        runs = [CanaryRun.from_item(item) for item in islice(notes, _NOTES_READ)]
        return {
            Figure.CANARY_AGE: max(self._now_s() - since_s, 0),
            Figure.CANARY_DOUBLED: sum(run.verdict is CanaryVerdict.DOUBLED for run in runs),
        }

    def _last_good_canary(self) -> CanaryRun | None:
        for item in islice(self.items.query(Table.LEDGER, CANARY_PK, descending=True), _NOTES_READ):
            run = CanaryRun.from_item(item)
            if run.verdict is CanaryVerdict.GOOD:
                return run
        return None

    def _waiting(self) -> dict[Figure, int]:
        """Measure waiting commits, and store the completeness for reports, which is computed from the same reads."""
        waiting = self.freshness.keep()
        through_s = self.freshness.answer().through_s
        return {
            Figure.WAITING_COMMITS: waiting.count,
            Figure.WAITING_COMMIT_AGE: self._age_s([] if waiting.oldest_ms is None else [waiting.oldest_ms]),
            **({Figure.COMPLETE_THROUGH_AGE: max(self._now_s() - through_s, 0)} if through_s else {}),
        }

    def _pending(self) -> dict[Figure, int]:
        """The compactor's pending hours. Without a recent listing, hours may be pending since the last listing."""
        known, state = lake_figures(self.items), self._state()
        looks = [known.get(shard) or LakeFigures(shard=shard, listed_s=state.first_s) for shard in self._shards()]
        late_ms = (self._now_s() - LISTED_LATE_S) * 1_000
        since_ms = [look.listed_s * 1_000 if look.oldest_ms is None else look.oldest_ms for look in looks]
        unsure = [look.oldest_ms is None and look.listed_s * 1_000 > late_ms for look in looks]
        return {
            Figure.UNPUBLISHED_HOURS: sum(look.hours for look in looks),
            Figure.OLDEST_PENDING_AGE: self._age_s(
                [since for since, fresh in zip(since_ms, unsure, strict=True) if not fresh]
            ),
        }

    def _runs(self) -> dict[Figure, int]:
        shards = self._shards()
        return {
            Figure.PLANNED_RUN_AGE: self._planned_age_s(map(lake_chain, shards)),
            Figure.PLANNED_ROLLUP_AGE: self._planned_age_s(map(rollup_chain, shards)),
        }

    def _planned_age_s(self, chains: Iterable[str]) -> int:
        newest = (newest_run(self.items, chain) for chain in chains)
        return self._age_s([run.planned_at_ms for run in newest if run is not None and run.state == "planned"])

    def _cleaning(self) -> dict[Figure, int]:
        """Age of objects overdue for cleaning. Without a recent run, objects may be due since the last run.

        If a cleaner has never run, its age counts from the last listing of its compactor.
        """
        known, compacted, state = cleanings(self.items), lake_figures(self.items), self._state()
        looks = [
            known.get(chain)
            or Cleaning(chain=chain, looked_s=compacted[shard].listed_s if shard in compacted else state.first_s)
            for shard in self._shards()
            for chain in (lake_chain(shard), rollup_chain(shard))
        ]
        late_s = self._now_s() - LISTED_LATE_S
        since_ms = [
            look.looked_s * 1_000 if look.due_ms is None else look.due_ms
            for look in looks
            if look.due_ms is not None or look.looked_s <= late_s
        ]
        passes = read_note(self.items, ORPHANS_KEY, OrphanPasses.from_item) or OrphanPasses()
        whole_s = passes.whole_s or state.first_s
        return {
            Figure.CLEANING_OVERDUE_AGE: self._age_s(since_ms),
            Figure.ORPHANS_UNSEEN_AGE: max(self._now_s() - whole_s, 0),
        }

    def _shards(self) -> range:
        return commits.known_shards(self.items, self.shards)

    def _reconciliation(self) -> dict[Figure, int]:
        state = self._state()
        known = read_note(self.items, RECONCILIATION_KEY, Reconciliation.from_item)
        known = known or Reconciliation(finished_s=0, hours=0, differences=0)
        last_s = max(known.finished_s, state.first_s)
        since_s = known.backlog.since_s
        return {
            Figure.RECONCILIATION_DIFFERENCES: known.differences,
            Figure.RECONCILIATION_AGE: max(self._now_s() - last_s, 0),
            Figure.RECONCILIATION_BACKLOG: known.backlog.waiting,
            Figure.RECONCILIATION_BACKLOG_AGE: 0 if since_s is None else max(self._now_s() - since_s, 0),
            # The first scan was due when the watch first ran.
            Figure.SCAN_OVERDUE_AGE: max(self._now_s() - (known.scan_due_s or state.first_s), 0),
        }

    def _sources(self) -> dict[Figure, int]:
        """Sums that the reconciler computed, because there may be too many sources to read all of them each minute."""
        known = read_note(self.items, SOURCES_KEY, SourceFigures.from_item) or SourceFigures()
        return {
            Figure.SILENT_SOURCES: known.silent,
            Figure.SOURCE_GAPS: known.gaps,
            Figure.INCREDIBLE_SOURCES: known.incredible,
            Figure.UNKEPT_SOURCES: known.unkept,
        }

    def _logs(self) -> dict[Figure, int]:
        """Sums that the coverage job computed; empty in a region without log sources."""
        known = read_note(self.items, log_sources.LOG_SOURCES_KEY, log_sources.LogFigures.from_item)
        if known is None or not known.log_sources:
            return {}
        captured_s = max(known.context_s, known.first_run_s)
        return {
            Figure.LOG_SLOTS_MISSING: known.missing_slots,
            Figure.LOG_LINES_REFUSED: known.refusing,
            Figure.LOG_BYTES_UNCLASSIFIED: known.unclassified,
            Figure.LOG_SOURCE_SILENT: known.silent,
            Figure.LOG_CONTEXT_AGE: max(self._now_s() - captured_s, 0) if captured_s else 0,
            Figure.LOG_UNCLASSIFIED_PERMILLE: known.unclassified_permille,
        }

    def _money(self) -> dict[Figure, int]:
        """Figures of the biller; if the biller has never run, its age counts from the watch's first run."""
        known = read_note(self.items, money.BILLER_KEY, money.BillerFigures.from_item)
        if known is None:
            return {Figure.BILLER_AGE: max(self._now_s() - self._state().first_s, 0), **dict.fromkeys(_MONEY, 0)}
        recent_s = self._now_s() - RECENT_S
        return {
            Figure.BILLER_AGE: max(self._now_s() - known.counted_s, 0),
            Figure.UNPRICED_BYTES: known.unpriced_bytes,
            Figure.INVOICES_BLOCKED: len(known.blocked_months),
            Figure.BUDGETS_CROSSED: sum(made_s >= recent_s for made_s in known.crossed_s),
        }

    def _bills(self) -> dict[Figure, int]:
        """Differences with AWS's own bill; no figure for a stage without an export of it."""
        known = money.bill_checks(self.items)
        return {Figure.BILL_DIFFERENCES: sum(each.problems(self._now_s()) for each in known)} if known else {}

    def _conflicts(self) -> dict[Figure, int]:
        """Number of distinct conflicts; a lower bound if there are more notes than one run of the watch reads."""
        recent = rfc3339(self._now_s() - RECENT_S)
        notes = self.items.query(Table.LEDGER, markers.CONFLICT_PK, sk_from=recent, descending=True)
        return {Figure.CONFLICTS: len({markers.conflict_of(item) for item in islice(notes, _NOTES_READ)})}

    def _drops(self) -> dict[Figure, int]:
        """Number of lost objects below `drop/`, and age of the last search for them (or of the watch's first run)."""
        known = read_note(self.items, DROPS_KEY, DroppedObjects.from_item) or DroppedObjects()
        looked_s = max(known.finished_s, self._state().first_s)
        return {Figure.LOST_DROPS: known.count, Figure.DROPS_UNSEEN_AGE: max(self._now_s() - looked_s, 0)}

    def _kinds(self) -> dict[Figure, int]:
        """Number of accounts that recently had usage kinds without a number, among the notes that one run reads."""
        since_s = self._now_s() - RECENT_S
        notes = islice(self.items.query(Table.LEDGER, BEYOND_CAP_PK), _NOTES_READ)
        return {Figure.ACCOUNTS_BEYOND_CAP: sum(KindsBeyondCap.from_item(note).seen_s >= since_s for note in notes)}

    def _headroom(self) -> dict[Figure, int]:
        """Seconds by which a marker's lifetime exceeds the minimum, a day after the last possible copy of its batch."""
        needed_s = shortest_marker_life_s(self.window_s, self.queue_facts.longest_retention_s())
        return {Figure.MARKER_LIFE_HEADROOM: self.marker_life_s - needed_s}

    def _age_s(self, since_ms: list[int]) -> int:
        return max((self.clock.now_ms() - min(since_ms)) // 1000, 0) if since_ms else 0

    def _now_s(self) -> int:
        return self.clock.now_ms() // 1000
