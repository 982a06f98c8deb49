"""Comparison of one booked hour, and the reader of its three figures: markers, usage items and rows.

Each comparison of usage with rows reads `done_runs` first, then rows, then usage (docs/protocol.md, P37).
"""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import TYPE_CHECKING

from metering.audit.settling import AccountHour, HourUsage, SeenItem, differing, read_accounts, settled_runs
from metering.audit.verification import EVERY_ACCOUNT, Difference
from metering.hours import month_of, rfc3339
from metering.lake.ports import BATCH_QUERY, USAGE_QUERY, CountedTotals, RowQuery, TotalsReader, UsageRows, usage_in
from metering.ledger.markers import Marker, marker_key, may_have_expired
from metering.ledger.usage.reading import UsageReading
from metering.ledger.usage.region import as_booked, complete_since_s, known_numbers, region_sums
from metering.stores.writes import ItemStore, Key, Table
from metering.units import HOUR_S
from metering.usage.totals import REGION, ZERO, Total, UsageKey, sum_totals

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from metering.audit.sequences import MarkerSurvey
    from metering.lake.view import LakeView
    from metering.ledger import booked_hours, runs
    from metering.stores.clock import Clock

_ACCOUNTS_QUERY = RowQuery(columns=("account_id",))


@dataclass(frozen=True, slots=True, kw_only=True)
class PlacedRows:
    """Rows of an hour that the roll-up has placed, for the comparison with usage.

    Attributes:
        booked: Total of the placed rows in the ledger; None if only some accounts were counted.
        region: Sums over all accounts as the region's items have them; None if the region is not compared (P51).
    """

    booked: Total | None
    by_key: Mapping[UsageKey, Total]
    region: Mapping[UsageKey, Total] | None = None

    @property
    def accounts(self) -> frozenset[str]:
        return frozenset(key.account_id for key in self.by_key)

    @property
    def compared(self) -> Mapping[UsageKey, Total]:
        """Sums of accounts and of the region."""
        return {**self.by_key, **(self.region or {})}

    def owners(self, accounts: frozenset[str] = frozenset()) -> frozenset[str]:
        """The accounts with rows and some others; and the region, if it is compared."""
        return (self.accounts | accounts) - {REGION} | (frozenset() if self.region is None else {REGION})


@dataclass(frozen=True, slots=True, kw_only=True)
class MarkedRows:
    """Markers and rows of an hour by batch, including the rows of waiting commits."""

    marked: Mapping[str, Total]
    rows: Mapping[str, Total]

    @property
    def total(self) -> Total:
        return sum_totals(self.marked.values())

    def differences(self, hour_s: int) -> Iterator[Difference]:
        """Batches that differ."""
        for batch_id, expected, found in differing(self.marked, self.rows):
            yield Difference(between="markers/rows", hour_s=hour_s, batch_id=batch_id, expected=expected, found=found)


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """Reads markers, usage and rows of hours.

    Attributes:
        totals: Reads the summaries beside lake files.
        marker_life_s: Age beyond which hours are compared without markers, which may have expired.
        threads: Number of table parts, or accounts, read in parallel.
    """

    items: ItemStore
    usage: UsageReading
    view: LakeView
    totals: TotalsReader
    clock: Clock
    marker_life_s: int
    threads: int = 1

    @classmethod
    def counted(
        cls, *, items: ItemStore, view: LakeView, clock: Clock, marker_life_s: int, threads: int = 1
    ) -> Figures:
        """Make `Figures` for a proof: they count the rows of lake files instead of reading the summaries."""
        return cls(
            items=items,
            usage=UsageReading(items),
            view=view,
            totals=CountedTotals(view.reader),
            clock=clock,
            marker_life_s=marker_life_s,
            threads=threads,
        )

    def over(self, items: ItemStore) -> Figures:
        """These figures, with markers and usage read from `items`."""
        return replace(self, items=items, usage=UsageReading(items, self.usage.names))

    def may_lack_markers(self, hour_s: int) -> bool:
        """Whether markers of the hour may have expired."""
        return may_have_expired(hour_s, self.marker_life_s, self.clock.now_ms() // 1000)

    def done_runs(self) -> dict[int, int]:
        """Newest done roll-up run of each shard. Read these runs before the rows, never after (P37)."""
        return settled_runs(self.items, self.view.shards)

    def accounts(self, hour_s: int) -> set[str]:
        """Accounts with placed rows in an hour."""
        return {str(name) for (name,) in self.view.placed.hour_totals(hour_s, _ACCOUNTS_QUERY)}

    def placed(self, hour_s: int, *, accounts: frozenset[str] | None = None) -> PlacedRows:
        """Count an hour's rows that the roll-up has placed, for all or for the named accounts.

        The region, which needs all rows, is counted with all accounts, or if it is named.
        """
        placed = self.view.placed
        query = USAGE_QUERY
        if accounts is not None and REGION not in accounts:
            query = replace(USAGE_QUERY, where=(("account_id", accounts),))
        with_region = query is USAGE_QUERY and self._has_region(hour_s)

        def count(state: booked_hours.HourState) -> PlacedRows:
            rows = dict(usage_in(hour_s, placed.reader.groups(state.sources, query)))
            return PlacedRows(
                booked=state.total if accounts is None else None,
                by_key={key: total for key, total in rows.items() if accounts is None or key.account_id in accounts},
                region=self.of_region(region_sums(rows.items())) if with_region else None,
            )

        rows = placed.read(hour_s, count)
        # Meanwhile, a run of an earlier release may have placed rows that the region's totals lack.
        return rows if not with_region or self._has_region(hour_s) else replace(rows, region=None)

    def _has_region(self, hour_s: int) -> bool:
        return hour_s >= complete_since_s(self.items, self.view.shards, planned=True)

    def region_since_s(self) -> int:
        """First hour from which on the region's totals can be compared. Read it before the rows, like `done_runs`."""
        return complete_since_s(self.items, self.view.shards)

    def of_region(self, sums: Mapping[UsageKey, Total]) -> dict[UsageKey, Total]:
        """Sums over all accounts as the region's items have them."""
        return as_booked(sums, known_numbers(self.usage.names, {key.kind for key in sums}))

    def summed(self, state: booked_hours.HourState) -> Iterator[UsageRows]:
        """Totals of an hour in parts: counted from rows in staging, or read from summaries beside lake files."""
        staged = [source for source in state.sources if source.staged]
        files = [source.file for source in state.sources if not source.staged]
        if staged:
            yield self.view.reader.hour_usage(state.hour_s, staged)
        if files:
            yield self.totals.summed(files)

    def used(self, hour_s: int, accounts: Iterable[str]) -> HourUsage:
        """Usage items of some accounts in one hour, without a scan."""
        return read_accounts(self.usage, accounts, from_s=hour_s, to_s=hour_s + HOUR_S).get(hour_s, HourUsage())

    def batches(self, hour_s: int, *, only: Callable[[str], bool] = lambda _batch_id: True) -> dict[str, Total]:
        """Count the rows of an hour by batch, including waiting commits, for batches that `only` accepts."""

        def count(state: booked_hours.HourState) -> dict[str, Total]:
            made: dict[str, Total] = {}
            for (name,), total in self.view.reader.parts(state.sources, BATCH_QUERY):
                if only(batch_id := str(name)):
                    made[batch_id] = made.get(batch_id, ZERO).plus(total)
            return made

        return self.view.read(hour_s, count)

    def marked(
        self,
        hour_s: int,
        batch_ids: Iterable[str],
        contradictions: runs.Contradictions | None = None,
        survey: MarkerSurvey | None = None,
    ) -> dict[str, Total]:
        """Totals for an hour according to the markers of some batches, whose sources are added to `survey`.

        Raises:
            LedgerCorruptError: A marker cannot be read. With `contradictions`, the error is recorded there instead.
        """
        found = self.items.get_many(Table.LEDGER, [marker_key(batch_id) for batch_id in batch_ids])
        marked: dict[str, Total] = {}
        for item in found.values():
            with nullcontext() if contradictions is None else contradictions.noted():
                marker = Marker.from_item(item)
                if survey is not None:
                    survey.add(marker)
                if hour_s in marker.hours:
                    marked[marker.batch_id] = marker.hours[hour_s]
        return marked

    def with_markers(
        self,
        hour_s: int,
        rows: Mapping[str, Total],
        known: Mapping[str, Total],
        contradictions: runs.Contradictions,
        survey: MarkerSurvey | None = None,
    ) -> MarkedRows:
        """Rows of an hour, with markers that were read before. Those that differ from the rows are read again."""
        again = [batch_id for batch_id, total in rows.items() if known.get(batch_id) != total]
        found = self.marked(hour_s, again, contradictions, survey) if again else {}
        return MarkedRows(marked={**known, **found}, rows=rows)


@dataclass(frozen=True, slots=True, kw_only=True)
class HourCheck:
    """Result of one pass over one booked hour.

    Attributes:
        stable: Whether all usage items were settled (P37) and, if markers were compared, the hour did not change.
        markers: Total of the markers; None if markers may have expired or were not compared.
        rows: Total of the rows in lake and staging: counted if `deep`, otherwise taken from the ledger.
        differences: Differences by key and batch if `deep`, otherwise at most one for usage and one for markers.
            Unsettled usage is excluded.
        unsettled: Account hours that could not be compared, because their usage is unsettled.
        seen: State of the usage items of each difference.
        digest: Digest of the rows by usage key (`usage_digest`) if `deep`.
        batches, records: Of a lake file, what was compared with markers, without the canary.
    """

    hour_s: int
    stable: bool
    deep: bool = True
    markers: Total | None = None
    usage: Total = ZERO
    rows: Total = ZERO
    differences: tuple[Difference, ...] = ()
    unsettled: frozenset[AccountHour] = frozenset()
    seen: Mapping[AccountHour, Mapping[Key, SeenItem]] = field(default_factory=dict)
    digest: str = ""
    batches: int = 0
    records: int = 0

    @property
    def agrees(self) -> bool:
        """Whether everything was compared and all three totals are equal."""
        return self.stable and not self.differences

    def with_look(self, other: HourCheck) -> HourCheck:
        """Merge the result of comparing a part of the hour."""
        known = set(self.differences)
        return replace(
            self,
            stable=self.stable and other.stable,
            differences=(*self.differences, *(each for each in other.differences if each not in known)),
            unsettled=self.unsettled | other.unsettled,
            seen={**self.seen, **other.seen},
        )

    def confirmed(self, earlier: HourCheck) -> HourCheck | None:
        """Keep only the differences that an earlier pass also found; None if none remain.

        A usage difference counts as found again only if its items were not written between the passes.
        """
        before = _gaps(earlier.differences)
        after = _gaps(self.differences)
        same = tuple(d for d in self.differences if before.get(_name(d)) == after[_name(d)] and self._still(d, earlier))
        return replace(self, differences=same) if same else None

    def _still(self, difference: Difference, earlier: HourCheck) -> bool:
        """Whether the usage items of a difference were not written since the earlier pass."""
        if difference.between != "usage/rows":
            return True
        if difference.key is None:
            return False
        place = AccountHour.of(difference.key)
        return _revisions(self.seen, place) == _revisions(earlier.seen, place)


@dataclass(slots=True, kw_only=True)
class HourComparison:
    """Compares usage of an hour with its rows, for all accounts at once or account by account. Mutable.

    Attributes:
        done: Newest done roll-up run of each shard, read before the rows.
        most: Maximum number of differences kept in memory; None for no limit.
    """

    hour_s: int
    done: Mapping[int, int]
    most: int | None = None
    rows: Total = ZERO
    usage: Total = ZERO
    differences: list[Difference] = field(default_factory=list)
    unsettled: set[AccountHour] = field(default_factory=set)
    seen: dict[AccountHour, Mapping[Key, SeenItem]] = field(default_factory=dict)

    def add(self, rows: Mapping[UsageKey, Total], usage: HourUsage) -> None:
        """Compare the placed rows of some accounts with their usage, which is read after the rows."""
        self.rows = self.rows.plus(_of_accounts(rows))
        self.usage = self.usage.plus(_of_accounts(usage.totals))
        self.unsettled |= usage.unsettled(self.done)
        self._hold(odd_items(usage))
        self.seen |= {place: usage.seen[place] for place, _, _ in usage.odd()}
        if usage.totals != rows:
            self._hold(self._differing(rows, usage))

    def check(self, *, booked: Total | None, markers: MarkedRows | None = None, digest: str = "") -> HourCheck:
        """Make the result.

        Args:
            booked: Total of the placed rows in the ledger; None if only some placed rows were counted.
            markers: Markers and rows by batch; None if markers may have expired or are not compared.
            digest: Digest of the rows.
        """
        found = [*self.differences, *(() if markers is None else markers.differences(self.hour_s))]
        if booked not in (None, self.rows):
            found.append(Difference(between="ledger/rows", hour_s=self.hour_s, expected=booked, found=self.rows))
        return HourCheck(
            hour_s=self.hour_s,
            stable=not self.unsettled,
            markers=None if markers is None else markers.total,
            usage=self.usage,
            rows=self.rows,
            differences=tuple(found),
            unsettled=frozenset(self.unsettled),
            seen=self.seen,
            digest=digest,
        )

    def _hold(self, found: Iterator[Difference]) -> None:
        self.differences += islice(found, None if self.most is None else self.most - len(self.differences))

    def _differing(self, rows: Mapping[UsageKey, Total], usage: HourUsage) -> Iterator[Difference]:
        for key, expected, found in differing(usage.totals, rows):
            place = AccountHour.of(key)
            if place not in self.unsettled:
                self.seen[place] = usage.seen.get(place, {})
                yield Difference(between="usage/rows", hour_s=self.hour_s, key=key, expected=expected, found=found)


def _of_accounts(totals: Mapping[UsageKey, Total]) -> Total:
    return sum_totals(total for key, total in totals.items() if key.account_id != REGION)


def _revisions(seen: Mapping[AccountHour, Mapping[Key, SeenItem]], place: AccountHour) -> dict[Key, int | None]:
    return {key: item.revision for key, item in seen.get(place, {}).items()}


def _name(difference: Difference) -> tuple[str, str, UsageKey | None]:
    return difference.between, difference.odd or difference.batch_id, difference.key


def odd_items(usage: HourUsage) -> Iterator[Difference]:
    """Differences for items with missing attributes, or with attributes that no release writes."""
    for place, key, item in usage.odd():
        yield Difference(
            between="usage/item",
            hour_s=place.hour_s,
            account_id=place.account_id,
            odd=f"{key.pk} / {key.sk}: {'; '.join(item.oddities)}",
            expected=ZERO,
            found=ZERO,
        )


def _gaps(differences: Iterable[Difference]) -> dict[tuple[str, str, UsageKey | None], Total]:
    return {_name(each): each.found.minus(each.expected) for each in differences}


def difference_fields(worst: Difference) -> dict[str, str | int]:
    """Fields of an alert about a difference."""
    return {
        "hour": rfc3339(worst.hour_s),
        "between": worst.between,
        "key": describe(worst),
        "expected_bytes": str(worst.expected.bytes),
        "found_bytes": str(worst.found.bytes),
        "expected_records": worst.expected.records,
        "found_records": worst.found.records,
    }


def describe(difference: Difference) -> str:
    """Describe the place of a difference: a usage key, a batch, accounts of a month, or the whole hour."""
    if difference.key is not None:
        return describe_key(difference.key)
    if difference.odd:
        return difference.odd
    if difference.account_id:
        whose = "accounts" if difference.account_id == EVERY_ACCOUNT else f"account {difference.account_id}"
        return f"{whose} of {month_of(difference.hour_s)}"
    return f"batch {difference.batch_id}" if difference.batch_id else "the hour"


def describe_key(key: UsageKey) -> str:
    """Name a usage key within its hour."""
    corrects = () if key.corrects_s is None else (f"corrects {rfc3339(key.corrects_s)}",)
    return " ".join((key.account_id, key.usage_type, key.service, f"{key.from_location}>{key.to_location}", *corrects))


@dataclass(frozen=True, slots=True, kw_only=True)
class HourFigures:
    """Figures of one hour.

    Attributes:
        state: Row sources of the hour, and the ledger's total of its rows.
        check: Result of the comparison; None if the hour exceeds the limit of rows, accounts or batches.
    """

    state: booked_hours.HourState
    check: HourCheck | None


@dataclass(frozen=True, slots=True, kw_only=True)
class OneHour:
    """Compares markers, usage and rows of a single hour, without scanning a table.

    The rows name their batches and accounts, so markers and usage are looked up by key. A marker or a usage item
    without any rows goes unnoticed: `Reconciler.check` scans for those.

    Attributes:
        attempts: Maximum number of attempts if the hour changes during the comparison.
        most_rows: Maximum number of rows, checked before any file is opened.
        most_accounts: Maximum number of accounts; the usage of each takes one query.
        most_batches: Maximum number of batches; markers are read a hundred at a time.
    """

    figures: Figures
    attempts: int = 5
    most_rows: int = 5_000_000
    most_accounts: int = 500
    most_batches: int = 20_000

    def look(self, hour_s: int, *, now_s: int) -> HourFigures:
        """Compare the hour; repeat if it changes during the comparison.

        Raises:
            UnavailableError: The hour could not be read.
            LedgerCorruptError: A marker cannot be read, or a file that the hour needs is missing.
        """
        figures = self._look(hour_s, now_s)
        for _ in range(self.attempts - 1):
            if figures.check is None or figures.check.stable:
                break
            figures = self._look(hour_s, now_s)
        return figures

    def _look(self, hour_s: int, now_s: int) -> HourFigures:
        figures = self.figures
        state = figures.view.hour_between(hour_s)
        if state.total.records > self.most_rows:
            return HourFigures(state=state, check=None)
        made = HourComparison(hour_s=hour_s, done=figures.done_runs())
        placed = figures.placed(hour_s)
        batches = figures.batches(hour_s)
        if len(placed.accounts) > self.most_accounts or len(batches) > self.most_batches:
            return HourFigures(state=state, check=None)
        made.add(placed.compared, figures.used(hour_s, placed.owners()))
        markers: MarkedRows | None = None
        if not may_have_expired(hour_s, figures.marker_life_s, now_s):
            markers = MarkedRows(marked=figures.marked(hour_s, batches), rows=batches)
        return HourFigures(state=state, check=made.check(booked=placed.booked, markers=markers))
