"""The reconciler checks hour by hour that markers = usage = lake and staging, in rows and bytes, tolerance 0 (I2).

docs/protocol.md, P37. A pass reads first the newest done runs of the roll-up, then the rows placed by these runs, then
usage. Usage items that contain a later run are compared in the next pass. An alarm is raised only if two passes, a
minute apart, find the same difference at the same item revision.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Protocol

from metering import metric_names
from metering.audit.census import Census
from metering.audit.census_state import CensusState, HourRows, Names, part_of, parts_in, span_hours
from metering.audit.hour_check import Figures, HourCheck, HourComparison, MarkedRows, difference_fields
from metering.audit.settling import limited, no_limit
from metering.lake.ports import in_order, usage_digest
from metering.ledger.markers import MarkerGlance, is_marker
from metering.ledger.runs import Contradictions, newest_run, rollup_chain
from metering.stores import clock
from metering.stores.writes import Item, Table
from metering.usage.totals import REGION, ZERO, Total

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from metering.audit import sequences, verification

_NOTHING = HourRows(booked=ZERO, placed=ZERO, all_rows=ZERO, keys=0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Doubt:
    """Parts of an hour in which a census found differences.

    Attributes:
        accounts: Parts in which usage and rows differ.
        unsettled: Parts in which some usage was unsettled.
        batches: Parts in which markers and rows differ.
        whole: Whether the total of the files differs from the ledger's total.
        all_batches: Whether the totals of markers and rows differ.
        moving: Whether new commits arrived in every attempt, so that markers and rows could not be compared.
    """

    accounts: frozenset[int] = frozenset()
    unsettled: frozenset[int] = frozenset()
    batches: frozenset[int] = frozenset()
    whole: bool = False
    all_batches: bool = False
    moving: bool = False

    def __bool__(self) -> bool:
        return bool(self.accounts or self.unsettled or self.batches or self.whole or self.all_batches or self.moving)

    @property
    def settled(self) -> Doubt:
        """Copy without unsettled parts."""
        return replace(self, accounts=self.accounts - self.unsettled, unsettled=frozenset())

    @property
    def differs(self) -> bool:
        """Whether any field other than `moving` records a doubt."""
        return bool(replace(self, moving=False))

    @property
    def marked(self) -> bool:
        """Whether markers and rows differ."""
        return self.all_batches or bool(self.batches)

    def has_account(self, name: str, parts: int) -> bool:
        """Whether an account belongs to a part whose usage differs or was unsettled."""
        part = part_of(name, parts)
        return part in self.accounts or part in self.unsettled

    def has_batch(self, name: str, parts: int) -> bool:
        """Whether a batch belongs to a part whose markers and rows differ; true for all batches if `all_batches`."""
        return self.all_batches or part_of(name, parts) in self.batches


@dataclass(frozen=True, slots=True)
class Findings:
    """Compares the counts of a census.

    Attributes:
        state: Counted to its end.
        may_lack_markers: Whether markers of an hour may have expired.
    """

    state: CensusState
    may_lack_markers: Callable[[int], bool]

    def checks(self) -> dict[int, tuple[HourCheck, Doubt]]:
        """The check and the doubt of each hour that has rows, usage or markers, in order of the hours."""
        state, usage = self.state, self.state.usage
        used = {hour_s for hour_s in (*state.used, *usage) if usage.counts(hour_s) or hour_s in state.unsettled}
        return {hour_s: self._hour(hour_s) for hour_s in sorted({*state.rows, *used, *state.unsettled, *state.marked})}

    def _hour(self, hour_s: int) -> tuple[HourCheck, Doubt]:
        state = self.state
        rows = state.rows.get(hour_s, _NOTHING)
        with_markers = state.with_markers and not self.may_lack_markers(hour_s)
        marked = state.marked.get(hour_s, ZERO)
        compared = with_markers and rows.all_rows is not None
        doubt = Doubt(
            accounts=state.placed.differing(state.usage, hour_s),
            unsettled=state.unsettled_parts(hour_s),
            batches=state.marks.differing(state.batches, hour_s) if with_markers and state.deep else frozenset(),
            whole=rows.booked != rows.placed,
            all_batches=compared and not state.deep and marked != rows.all_rows,
            moving=with_markers and rows.all_rows is None,
        )
        check = HourCheck(
            hour_s=hour_s,
            stable=not doubt,
            deep=state.deep,
            markers=marked if with_markers else None,
            usage=state.used.get(hour_s, ZERO),
            rows=rows.placed,
            digest=rows.digest,
        )
        return check, doubt


@dataclass(frozen=True, slots=True, kw_only=True)
class NameSearch:
    """Scans each table again for the accounts and batches in differing parts of a census.

    The names are kept in the census state, so that another process can resume.

    Attributes:
        most: Maximum number of batches kept in memory.
        limit: Called during reads; it may raise ScanTooLongError.
    """

    figures: Figures
    most: int
    limit: Callable[[], None]

    def run(self, state: CensusState, doubts: Mapping[int, Doubt]) -> Names:
        """Read the names of the accounts and batches in the parts with doubts.

        Raises:
            ScanTooLongError: As `limit` says. `state` stores the names that were read so far.
        """
        if any(doubt.accounts or doubt.unsettled for doubt in doubts.values()):
            self._accounts(state, doubts)
        if any(doubt.marked for doubt in doubts.values()) and not state.names.too_many:
            self._batches(state, doubts)
        return state.names

    def _accounts(self, state: CensusState, doubts: Mapping[int, Doubt]) -> None:
        names = state.names

        def read(part: int) -> set[tuple[int, str]]:
            found = self.figures.usage.scan(
                Contradictions(), part=part, parts=state.segments, from_s=state.from_s, to_s=state.to_s
            )
            places = ((item.hour_s, item.account_id) for item in limited(found, self.limit))
            return {
                (hour_s, name)
                for hour_s, name in places
                if hour_s in doubts and doubts[hour_s].has_account(name, state.parts)
            }

        for found in clock.side_by_side(read, range(names.usage_done, state.segments), threads=self.figures.threads):
            for hour_s, name in found:
                names.accounts.setdefault(hour_s, set()).add(name)
            names.usage_done += 1

    def _batches(self, state: CensusState, doubts: Mapping[int, Doubt]) -> None:
        names = state.names
        held = sum(map(len, names.batches.values()))

        def read(part: int) -> list[tuple[int, str, Total]]:
            found: list[tuple[int, str, Total]] = []
            for item in limited(self.figures.items.scan(Table.LEDGER, part=part, parts=state.segments), self.limit):
                if is_marker(item) and len(found) <= self.most:
                    found += _marked(item, state, doubts)
            return found

        for found in clock.side_by_side(read, range(names.markers_done, state.segments), threads=self.figures.threads):
            held += len(found)
            if held > self.most:
                names.batches, names.too_many = {}, True
                return
            for hour_s, batch_id, total in found:
                names.batches.setdefault(hour_s, {})[batch_id] = total
            names.markers_done += 1


def _marked(item: Item, state: CensusState, doubts: Mapping[int, Doubt]) -> list[tuple[int, str, Total]]:
    """Totals of a marker in the hours with doubts; empty for an unreadable marker, which the census has listed."""
    with Contradictions().noted():
        marker = MarkerGlance.of_item(item)
        hours = [(hour_s, total) for hour_s, total in marker.hours.items() if hour_s in doubts]
        parts, batch_id = state.parts, marker.batch_id
        return [(hour_s, batch_id, total) for hour_s, total in hours if doubts[hour_s].has_batch(batch_id, parts)]
    return []


# At most this many hours get their own alert; the count includes all hours.
_HOURS_NAMED = 20
# Bytes of a batch with its name and total in four dictionaries. The examined batches may take a quarter of the memory.
_NAMED_BYTES = 1_000


@dataclass(frozen=True, slots=True, kw_only=True)
class ReconciliationResult:
    """Result of a reconciliation.

    Attributes:
        checks: Result of the last pass over each hour, in order of the hours.
        different: Hours in which two consecutive passes found the same difference.
        unstable: Hours that could not be compared completely.
        markers: All markers of the ledger, as read by the first pass.
        derived: Differences in derived sums that another job maintains.
        unjudged: Hours with differences that were not examined.
    """

    checks: tuple[HourCheck, ...]
    different: tuple[HourCheck, ...]
    unstable: tuple[HourCheck, ...]
    markers: sequences.MarkerSurvey
    derived: tuple[verification.Difference, ...] = ()
    unjudged: frozenset[int] = frozenset()


class DerivedSums(Protocol):
    """Sums of rows that another job maintains."""

    def differences(self, *, from_s: int, to_s: int, deep: bool = False) -> Sequence[verification.Difference]:
        """Differences from the rows of hours in `[from_s, to_s)`; with `deep`, the rows are counted."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reconciler:
    """Compares markers, usage and lake, hour by hour.

    Attributes:
        derived: Sums of rows that another job maintains, compared in addition to markers, usage and rows.
        wait_ms: Time between two passes over an hour that differs or is unstable.
        passes: Maximum number of passes over an hour that differs or is unstable.
        memory_bytes: Maximum memory of a full scan.
    """

    figures: Figures
    metrics: clock.Metrics
    alerts: clock.Alerts
    derived: DerivedSums | None = None
    wait_ms: int = 60_000
    passes: int = 4
    memory_bytes: int = 1 << 30

    def run(
        self, *, from_s: int, to_s: int, deep: bool = False, limit: Callable[[], None] = no_limit
    ) -> ReconciliationResult:
        """Run `check`, compare the derived sums, and send alerts about the differences."""
        return self.told(
            self.check(from_s=from_s, to_s=to_s, deep=deep, limit=limit), from_s=from_s, to_s=to_s, deep=deep
        )

    def told(self, result: ReconciliationResult, *, from_s: int, to_s: int, deep: bool) -> ReconciliationResult:
        """Send alerts about the differences that a check found, and compare the derived sums."""
        self.tell(len(result.checks), result.different)
        if self.derived is None:
            return result
        derived = tuple(self.derived.differences(from_s=from_s, to_s=to_s, deep=deep))
        if derived:
            # No bill depends on these hours, so nobody is paged.
            fields = difference_fields(derived[0])
            self.alerts.send("ticket", "Lists of accounts differ", {**fields, "differences": len(derived)})
        return replace(result, derived=derived)

    def unjudged(self, state: CensusState) -> ReconciliationResult:
        """Result of a census whose differences were not examined for lack of time."""
        found = Findings(state, self.figures.may_lack_markers).checks()
        return ReconciliationResult(
            checks=tuple(check for check, _ in found.values()),
            different=(),
            unstable=tuple(check for check, doubt in found.values() if doubt),
            markers=state.survey,
            unjudged=frozenset(hour_s for hour_s, (_, doubt) in found.items() if doubt.settled.differs),
        )

    def tell(self, hours: int, different: Sequence[HourCheck]) -> None:
        """Count the compared hours, and send a page for hours that differ."""
        self.metrics.count(metric_names.RECONCILED_HOURS, hours)
        self.metrics.count(metric_names.RECONCILIATION_DIFFERENCES, len(different))
        for check in different[:_HOURS_NAMED]:
            fields = difference_fields(check.differences[0])
            more = {"differences_in_hour": len(check.differences), "hours_different": len(different)}
            self.alerts.send("page", "Totals differ", {**fields, **more})

    def check(
        self,
        *,
        from_s: int,
        to_s: int,
        deep: bool = False,
        limit: Callable[[], None] = no_limit,
        tell: Callable[[CensusState], None] = lambda _state: None,
    ) -> ReconciliationResult:
        """Compare every hour of `[from_s, to_s)` that has a row source, usage or a marker.

        Args:
            from_s: Start of the first hour.
            to_s: Exclusive end of the last hour.
            deep: Whether to count the rows, instead of reading totals from the summaries beside the lake files.
            limit: Called during scans; it may raise ScanTooLongError.
            tell: Called after each part of a table and each hour.

        Raises:
            UnavailableError: An hour could not be read.
        """
        state = self.begin(from_s=from_s, to_s=to_s, deep=deep)
        self.census.go_on(state, limit=limit, tell=tell)
        return self.judge(state, limit=limit)

    def begin(
        self, *, from_s: int, to_s: int, deep: bool = False, markers: bool = True, sources: bool = True
    ) -> CensusState:
        """Begin a census. `census.go_on` counts, and `judge` examines the differences."""
        parts = parts_in(self.memory_bytes, span_hours(from_s, to_s))
        return self.census.begin(from_s=from_s, to_s=to_s, deep=deep, parts=parts, markers=markers, sources=sources)

    @property
    def census(self) -> Census:
        """Counts markers, rows and usage."""
        return Census(figures=self.figures)

    def judge(
        self, state: CensusState, *, settle: bool = True, limit: Callable[[], None] = no_limit
    ) -> ReconciliationResult:
        """Examine all differences of a finished census, until a second pass confirms them.

        Args:
            state: The census.
            settle: Also examine unsettled usage. If false, the quick passes compare such usage when its rows are
                published: under traffic nearly every hour has some unsettled usage.
            limit: Called between passes; it may raise ScanTooLongError.
        """
        checks = Findings(state, self.figures.may_lack_markers).checks()
        found = {hour_s: check for hour_s, (check, _) in checks.items()}
        doubts = {hour_s: doubt if settle else doubt.settled for hour_s, (_, doubt) in checks.items()}
        doubts = {hour_s: doubt for hour_s, doubt in doubts.items() if doubt}
        looks, unjudged = self._first_looks(state, found, doubts, limit)
        found |= looks
        different: dict[int, HourCheck] = {}
        doubtful = [hour_s for hour_s in doubts if not found[hour_s].agrees]
        for _ in range(self.passes - 1):
            if not doubtful:
                break
            self.figures.clock.sleep_ms(self.wait_ms)
            for hour_s in doubtful:
                limit()
                again = self.look_again(found[hour_s])
                confirmed = again.confirmed(found[hour_s])
                if confirmed is not None:
                    different[hour_s] = confirmed
                found[hour_s] = again
            doubtful = [h for h in doubtful if h not in different and not found[h].agrees]
        found |= {hour_s: replace(found[hour_s], stable=False) for hour_s in unjudged}
        left: list[int] = []
        if not settle and not self._will_be_published(state.latest):
            left = [h for h, (_, doubt) in checks.items() if doubt.unsettled and h not in different]
        return ReconciliationResult(
            checks=tuple(found[hour_s] for hour_s in sorted(found)),
            different=tuple(different[hour_s] for hour_s in sorted(different)),
            unstable=tuple(found[hour_s] for hour_s in sorted({*doubtful, *left, *unjudged})),
            markers=state.survey,
            unjudged=unjudged,
        )

    def _will_be_published(self, latest: Mapping[int, int]) -> bool:
        """Whether roll-up runs with these numbers exist: compaction will publish their rows."""
        newest = ((number, newest_run(self.figures.items, rollup_chain(shard))) for shard, number in latest.items())
        return all(run is not None and number <= run.number for number, run in newest)

    def _first_looks(
        self,
        state: CensusState,
        checks: Mapping[int, HourCheck],
        doubts: Mapping[int, Doubt],
        limit: Callable[[], None],
    ) -> tuple[dict[int, HourCheck], frozenset[int]]:
        """Compare differing cells key by key; the names come from one scan of each table.

        Returns the checks, and the hours whose differing cells have too many batches for the memory.
        """
        search = NameSearch(figures=self.figures, most=self.memory_bytes // _NAMED_BYTES, limit=limit)
        names = search.run(state, doubts)
        looks: dict[int, HourCheck] = {}
        for hour_s, doubt in sorted(doubts.items(), reverse=True):
            limit()
            check = self._first_look(checks[hour_s], doubt, names.accounts.get(hour_s, set()), state.parts)
            if doubt.marked and not names.too_many:
                batches = self._by_batch(
                    hour_s, names.batches.get(hour_s, {}), only=partial(doubt.has_batch, parts=state.parts)
                )
                check = replace(check, differences=(*check.differences, *batches.differences(hour_s)))
            looks[hour_s] = replace(check, stable=check.stable and not (names.too_many and doubt.marked))
        return looks, frozenset(hour_s for hour_s, doubt in doubts.items() if names.too_many and doubt.marked)

    def _first_look(self, before: HourCheck, doubt: Doubt, accounts: set[str], parts: int) -> HourCheck:
        """Compare the usage of an hour; if possible, only in the parts that differ."""
        names = set(accounts)
        if not (doubt.whole or doubt.accounts or doubt.unsettled):
            return replace(before, stable=not doubt.moving)
        if not doubt.whole:
            known = self.figures.accounts(before.hour_s) | {REGION}
            names |= {name for name in known if doubt.has_account(name, parts)}
        check = self.look(before.hour_s, frozenset(names), alone=not doubt.whole)
        check = replace(check, markers=before.markers, stable=check.stable and not doubt.moving)
        return check if doubt.whole else _of_whole_hour(check, before)

    def look(self, hour_s: int, accounts: frozenset[str], *, alone: bool = False) -> HourCheck:
        """Make one deep pass over usage and rows of one hour (P37), without markers or a scan.

        Compare `accounts` and the accounts with rows, or only `accounts` if `alone`.
        """
        made = HourComparison(hour_s=hour_s, done=self.figures.done_runs())
        placed = self.figures.placed(hour_s, accounts=accounts if alone else None)
        made.add(placed.compared, self.figures.used(hour_s, placed.owners(accounts)))
        return made.check(booked=placed.booked, digest="" if alone else usage_digest(in_order(placed.by_key)))

    def look_again(self, before: HourCheck) -> HourCheck:
        """Make one deep pass over the accounts and batches that an earlier check found unsettled or different."""
        accounts = frozenset(place.account_id for place in (*before.unsettled, *before.seen))
        whole = any(each.between == "ledger/rows" for each in before.differences)
        if whole or accounts:
            check = self.look(before.hour_s, accounts, alone=not whole)
            check = replace(check, markers=before.markers)
            check = check if whole else _of_whole_hour(check, before)
        else:
            check = replace(before, stable=True, differences=())
        batches = {each.batch_id for each in before.differences if each.between == "markers/rows"}
        if not batches:
            return check
        marked = self._by_batch(before.hour_s, self._marked(before.hour_s, batches), only=batches.__contains__)
        return replace(check, differences=(*check.differences, *marked.differences(before.hour_s)))

    def _by_batch(self, hour_s: int, marked: Mapping[str, Total], *, only: Callable[[str], bool]) -> MarkedRows:
        """Compare markers that were read earlier with the current rows. The markers of newer batches are looked up."""
        rows = self.figures.batches(hour_s, only=only)
        return self.figures.with_markers(hour_s, rows, marked, Contradictions())

    def _marked(self, hour_s: int, batch_ids: Iterable[str]) -> dict[str, Total]:
        return self.figures.marked(hour_s, batch_ids, Contradictions())


def _of_whole_hour(check: HourCheck, before: HourCheck) -> HourCheck:
    """Replace the totals in the check of a part of an hour with the totals of the whole hour."""
    return replace(check, usage=before.usage, rows=before.rows, digest=before.digest)
