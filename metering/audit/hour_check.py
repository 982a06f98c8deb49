"""Comparison of one booked hour: the figures that a pass read, and their differences."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from metering.audit.settling import AccountHour, HourUsage, SeenItem, settled_runs, survey_hour
from metering.audit.verification import EVERY_ACCOUNT, Difference
from metering.hours import month_of, rfc3339
from metering.lake.ports import BATCH_QUERY, USAGE_QUERY, batches_of, in_order, usage_digest, usage_of
from metering.ledger.markers import Marker, marker_key
from metering.ledger.usage.reading import UsageReading
from metering.stores.writes import Key, Table
from metering.units import HOUR_S
from metering.usage.totals import ZERO, Total, UsageKey, sum_totals

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from metering.lake.view import LakeView
    from metering.ledger.booked_hours import HourState
    from metering.stores.items import ItemStore


@dataclass(frozen=True, slots=True, kw_only=True)
class HourCheck:
    """Result of one pass over one booked hour.

    Attributes:
        stable: Every usage item of the hour was settled (P37), and the hour stood still where markers were compared.
        markers: Total of the markers; None where they may have expired, or were not compared.
        rows: Total of lake and staging: counted from the rows if `deep`, otherwise taken from the ledger.
        differences: By key and by batch if `deep`, otherwise at most one for usage and one for markers. Usage that is
            not settled is left out.
        unsettled: Where usage was not settled, so that it could not be compared.
        seen: State of the usage items of each difference.
        digest: Digest of the rows by usage key (`usage_digest`) if `deep`: what was compared, without holding it.
    """

    hour_s: int
    stable: bool
    deep: bool
    markers: Total | None
    usage: Total
    rows: Total
    differences: tuple[Difference, ...]
    unsettled: frozenset[AccountHour] = frozenset()
    seen: Mapping[AccountHour, Mapping[Key, SeenItem]] = field(default_factory=dict)
    digest: str = ""

    @property
    def agrees(self) -> bool:
        """Whether everything was compared, and all three totals are equal."""
        return self.stable and not self.differences

    def with_look(self, other: HourCheck) -> HourCheck:
        """The same with what a look at a part of the hour found."""
        known = set(self.differences)
        return replace(
            self,
            stable=self.stable and other.stable,
            differences=(*self.differences, *(each for each in other.differences if each not in known)),
            unsettled=self.unsettled | other.unsettled,
            seen={**self.seen, **other.seen},
        )

    def confirmed(self, earlier: HourCheck) -> HourCheck | None:
        """The same pass with those differences alone that an earlier pass showed, too; None without any.

        A difference of usage is the same if its items were not written between the passes.
        """
        before = _gaps(earlier.differences)
        after = _gaps(self.differences)
        same = tuple(d for d in self.differences if before.get(_name(d)) == after[_name(d)] and self._still(d, earlier))
        return replace(self, differences=same) if same else None

    def _still(self, difference: Difference, earlier: HourCheck) -> bool:
        """Whether nobody wrote to the usage items of a difference since the earlier pass."""
        if difference.between != "usage/rows":
            return True
        if difference.key is None:
            return False
        place = AccountHour.of(difference.key)
        return _revisions(self.seen, place) == _revisions(earlier.seen, place)


@dataclass(frozen=True, slots=True, kw_only=True)
class PlacedRows:
    """Rows of an hour that the roll-up has placed: they are compared with usage.

    Attributes:
        booked: Their total, as the ledger says.
        by_key: Counted from the rows of `accounts`.
        accounts: The only accounts that were counted; None for all.
    """

    booked: Total
    by_key: Mapping[UsageKey, Total]
    accounts: frozenset[str] | None = None

    @property
    def total(self) -> Total:
        """Counted total."""
        return sum_totals(self.by_key.values())


@dataclass(frozen=True, slots=True, kw_only=True)
class MarkedRows:
    """Markers of an hour by batch, and the rows of all commits, those that still wait included."""

    marked: Mapping[str, Total]
    rows: Mapping[str, Total]

    def differences(self, hour_s: int) -> Iterable[Difference]:
        """One for each batch that differs."""
        for batch_id in sorted(self.marked.keys() | self.rows.keys()):
            expected, found = self.marked.get(batch_id, ZERO), self.rows.get(batch_id, ZERO)
            if expected != found:
                yield Difference(
                    between="markers/rows", hour_s=hour_s, batch_id=batch_id, expected=expected, found=found
                )


@dataclass(frozen=True, slots=True, kw_only=True)
class HourReading:
    """Figures of one hour, as one pass read them.

    Attributes:
        done: Newest done run of each shard's roll-up, read before the rows.
        usage: Read after the rows.
        markers: None where markers may have expired, or are not compared.
    """

    hour_s: int
    done: Mapping[int, int]
    placed: PlacedRows
    usage: HourUsage
    markers: MarkedRows | None = None

    def check(self) -> HourCheck:
        """Compare markers, usage and rows."""
        unsettled = self.usage.unsettled(self.done)
        placed, markers = self.placed, self.markers
        found = [*odd_items(self.usage), *self._usage(unsettled)]
        if markers is not None:
            found += markers.differences(self.hour_s)
        if placed.accounts is None and placed.total != placed.booked:
            # The files do not hold the total that the ledger has for them.
            found.append(
                Difference(between="ledger/rows", hour_s=self.hour_s, expected=placed.booked, found=placed.total)
            )
        return HourCheck(
            hour_s=self.hour_s,
            stable=not unsettled,
            deep=True,
            markers=None if markers is None else sum_totals(markers.marked.values()),
            usage=self.usage.total,
            rows=placed.total,
            differences=tuple(found),
            unsettled=unsettled,
            seen=self._seen(found),
            digest=usage_digest(in_order(placed.by_key)),
        )

    def _usage(self, unsettled: frozenset[AccountHour]) -> Iterable[Difference]:
        hour_s, rows, booked = self.hour_s, self.placed.by_key, self.usage.totals
        for key in sorted(booked.keys() | rows.keys(), key=str):
            expected, found = booked.get(key, ZERO), rows.get(key, ZERO)
            if expected != found and AccountHour.of(key) not in unsettled:
                yield Difference(between="usage/rows", hour_s=hour_s, key=key, expected=expected, found=found)

    def _seen(self, found: Iterable[Difference]) -> Mapping[AccountHour, Mapping[Key, SeenItem]]:
        keys = [difference.key for difference in found if difference.between == "usage/rows"]
        places = {AccountHour.of(key) for key in keys if key} | {place for place, _, _ in self.usage.odd()}
        return {place: self.usage.seen.get(place, {}) for place in places}


def _revisions(seen: Mapping[AccountHour, Mapping[Key, SeenItem]], place: AccountHour) -> dict[Key, int | None]:
    return {key: item.revision for key, item in seen.get(place, {}).items()}


def _name(difference: Difference) -> tuple[str, str, UsageKey | None]:
    return difference.between, difference.odd or difference.batch_id, difference.key


def odd_items(usage: HourUsage) -> Iterable[Difference]:
    """One for each item in which is something that no release leaves so."""
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


def alert_fields(check: HourCheck, hours: int) -> dict[str, str | int]:
    """Fields of an alert about the first difference of an hour; `hours` is the number of different hours."""
    fields = difference_fields(check.differences[0])
    return {**fields, "differences_in_hour": len(check.differences), "hours_different": hours}


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
    """Name the place of a difference: a usage key, a batch, accounts of a month, or the whole hour."""
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


# One hour by itself: markers, usage and rows, without a scan of any table.
#
# The rows name their batches and accounts, so markers and usage are looked up by key. A marker or a usage item whose
# rows
# are lost whole is not met on this way: `Reconciler.check` scans for those.


@dataclass(frozen=True, slots=True, kw_only=True)
class HourFigures:
    """What is known of one hour.

    Attributes:
        state: Where its rows are, and their total as the ledger says.
        check: The comparison; None if the hour has more rows, accounts or batches than are compared at once.
    """

    state: HourState
    check: HourCheck | None


@dataclass(frozen=True, slots=True, kw_only=True)
class OneHour:
    """Compares one hour.

    Attributes:
        marker_life_s: Hours whose markers may have expired are compared without them.
        attempts: Most looks at an hour that changes meanwhile.
        most_rows: Rows of an hour that are still counted; known before any file is opened.
        most_accounts: Accounts whose usage is read, by one query each.
        most_batches: Batches whose markers are read, a hundred at a time.
    """

    items: ItemStore
    view: LakeView
    marker_life_s: int
    attempts: int = 5
    most_rows: int = 5_000_000
    most_accounts: int = 500
    most_batches: int = 20_000

    def look(self, hour_s: int, *, now_s: int) -> HourFigures:
        """Compare the hour; if it changes meanwhile, again.

        Raises:
            UnavailableError: The hour could not be read.
            LedgerCorruptError: A marker cannot be read, or a file that the hour needs is gone.
        """
        figures = self._look(hour_s, now_s)
        for _ in range(self.attempts - 1):
            if figures.check is None or figures.check.stable:
                break
            figures = self._look(hour_s, now_s)
        return figures

    def _look(self, hour_s: int, now_s: int) -> HourFigures:
        state = self.view.hour_between(hour_s)
        if state.total.records > self.most_rows:
            return HourFigures(state=state, check=None)
        done = settled_runs(self.items, self.view.shards)
        placed = self._placed(hour_s)
        batches = batches_of(self.view.hour_totals(hour_s, BATCH_QUERY))
        accounts = {key.account_id for key in placed.by_key or ()}
        if len(accounts) > self.most_accounts or len(batches) > self.most_batches:
            return HourFigures(state=state, check=None)
        usage = survey_hour(UsageReading(self.items), hour_s, accounts)
        reading = HourReading(
            hour_s=hour_s, done=done, placed=placed, usage=usage, markers=self._marked(hour_s, batches, now_s)
        )
        return HourFigures(state=state, check=reading.check())

    def _placed(self, hour_s: int) -> PlacedRows:
        placed = self.view.placed

        def count(state: HourState) -> PlacedRows:
            rows = usage_of(hour_s, placed.reader.totals(state.sources, USAGE_QUERY))
            return PlacedRows(booked=state.total, by_key=rows)

        return placed.read(hour_s, count)

    def _marked(self, hour_s: int, batches: Mapping[str, Total], now_s: int) -> MarkedRows | None:
        """Markers of the batches that have rows: they were there before the rows."""
        # A marker was decided an hour before its hour at the earliest.
        if hour_s - HOUR_S + self.marker_life_s <= now_s:
            return None
        found = self.items.get_many(Table.LEDGER, [marker_key(batch_id) for batch_id in batches])
        markers = map(Marker.from_item, found.values())
        marked = {marker.batch_id: marker.hours.get(hour_s, ZERO) for marker in markers}
        return MarkedRows(marked=marked, rows=batches)
