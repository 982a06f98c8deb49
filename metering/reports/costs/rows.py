"""Rows of a cost report: exact sums, which are rounded only when printed."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar, NamedTuple

from metering.billing import documents
from metering.billing.money import UNITS_A_USD, quantity_of, usd_text
from metering.billing.rating.payer_prices import PriceState, RatedLine
from metering.billing.rating.rater import Rater, rated_by_days
from metering.hours import rfc3339
from metering.reports.query import (
    COST_COLUMNS,
    FILTERS,
    PAYER,
    PLACES,
    Filter,
    GroupColumn,
    UsageParameters,
    UsageQuery,
    given_names,
)
from metering.reports.time_range import InvalidParametersError, check_rows, refused
from metering.reports.usage_rows import ReportRow, Values, value_functions
from metering.units import DAY_S, HOUR_S
from metering.usage.totals import Service, UsageKey, UsageType

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from metering.billing.prices.book import PriceBook
    from metering.billing.usage.months import MergedUsage, UsageLine


class Entry(NamedTuple):
    """A rated line to be added to a row."""

    values: Values
    rated: RatedLine
    late: bool = False


@dataclass(slots=True)
class Figures:
    """Exact sums of a row. Mutable.

    Attributes:
        exact: Exact cost (L0) of the priced bytes.
        priced, unpriced, unrated: Whether any usage has a price; bytes without a price; bytes that are not sold.
    """

    bytes: int = 0
    exact: int = 0
    priced: bool = False
    unpriced: int = 0
    unrated: int = 0
    late: int = 0

    def add(self, rated: RatedLine, *, late: bool = False) -> None:
        """Count a line."""
        size = rated.line.bytes
        self.bytes += size
        if rated.state is PriceState.PRICED:
            exact = size * rated.price
            self.priced = True
            self.exact += exact
            self.late += exact if late else 0
        elif rated.state is PriceState.UNPRICED:
            self.unpriced += size
        else:
            self.unrated += size

    def plus(self, other: Figures) -> None:
        """Add the sums of another row."""
        self.bytes += other.bytes
        self.exact += other.exact
        self.priced = self.priced or other.priced
        self.unpriced += other.unpriced
        self.unrated += other.unrated
        self.late += other.late

    @property
    def known(self) -> bool:
        """Whether the cost is known: some usage has a price, or no usage lacks a price."""
        return self.priced or not self.unpriced


CostRow = ReportRow[Figures]


@dataclass(frozen=True, slots=True, kw_only=True)
class CostRows:
    """All rows of a report, and its bytes without a price by usage type and service."""

    rows: list[CostRow]
    unpriced: Mapping[tuple[UsageType, Service], int]

    @property
    def total(self) -> Figures:
        """The sum of all rows."""
        return total_of(row.total for row in self.rows)


def total_of(figures: Iterable[Figures]) -> Figures:
    """The sum of some rows."""
    total = Figures()
    for each in figures:
        total.plus(each)
    return total


def rows_of(entries: Iterable[Entry], *, most: int | None = None) -> CostRows:
    """Sum lines into rows, one row for each distinct tuple of values.

    Raises:
        InvalidParametersError: There are more rows than `most`.
    """
    sums: dict[Values, Figures] = {}
    unpriced: dict[tuple[UsageType, Service], int] = {}
    for values, rated, late in entries:
        figures = sums.get(values)
        if figures is None:
            figures = sums[values] = Figures()
            check_rows(len(sums), most)
        figures.add(rated, late=late)
        if rated.state is PriceState.UNPRICED:
            named = (rated.line.usage_type, rated.line.service)
            unpriced[named] = unpriced.get(named, 0) + rated.line.bytes
    rows = [ReportRow(values=values, total=sums[values]) for values in sorted(sums)]
    return CostRows(rows=rows, unpriced=unpriced)


COST = "cost_usd"
SUMS = (COST, "bytes", "quantity_gb", "unpriced_bytes", "unrated_bytes")
"""Columns of figures of a report of costs; rows can be ranked by them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CostQuery:
    """A query about costs: usage of some regions and payers, rated at the payers' positions over all regions."""

    usage: UsageQuery
    payers: frozenset[str] = frozenset()
    regions: frozenset[str] = frozenset()

    @property
    def by_place(self) -> bool:
        """Whether a filter needs the `from` or the `to` location."""
        return self.usage.reads(PLACES)

    @property
    def by_region(self) -> bool:
        """Whether regions must be kept separate."""
        return bool(self.regions) or self.has_column("region")

    def takes_region(self, region: str) -> bool:
        """Whether the query includes the usage of a region's ledger."""
        return not self.regions or region in self.regions

    def takes(self, line: UsageLine) -> bool:
        """Whether a line passes the filters by name. Times are the caller's."""
        return self.usage.takes(line)

    def covers(self, hour_s: int) -> bool:
        """Whether an hour of use lies in the range."""
        return self.usage.from_s <= hour_s < self.usage.to_s

    def has_column(self, *names: str) -> bool:
        """Whether rows are grouped by any of these columns."""
        return not set(names).isdisjoint(self.usage.group_by)


@dataclass(frozen=True, slots=True, kw_only=True)
class CostParameters(UsageParameters):
    """The parameters of a cost query, as text.

    Attributes:
        month: One billing month, instead of `start`, `end` and `last`.
    """

    FILTERS: ClassVar[Mapping[str, Filter]] = {**FILTERS, "payer": PAYER}
    KNOWN: ClassVar[tuple[GroupColumn, ...]] = COST_COLUMNS
    SUMS: ClassVar[tuple[str, ...]] = SUMS

    month: str | None = None
    region: str | None = None

    def cost_query(self, *, now_s: int) -> CostQuery:
        """The query that these parameters mean at `now_s`.

        Raises:
            InvalidParametersError: A parameter is invalid, or `month` is invalid or combined with other times.
        """
        asked = self if self.month is None else replace(self, start=self._month(self.month))
        return CostQuery(
            usage=asked.query(now_s=now_s),
            payers=given_names(self.filters.get("payer")),
            regions=frozenset([self.region] if self.region else []),
        )

    def hour_query(self, *, now_s: int) -> CostQuery:
        """The query about the hour that begins at `start`.

        Raises:
            InvalidParametersError: `start` is not a full hour that has begun, or a filter has an impossible value.
        """
        start = self.start or ""
        try:
            hour_s = documents.hour_of_text(start)
        except ValueError as error:
            problem = refused("hour", start, "is no full hour.", "Write it as 2026-11-24T13:00:00Z.")
            raise InvalidParametersError([problem]) from error
        if hour_s > now_s:
            raise InvalidParametersError([refused("hour", start, "lies in the future.")])
        return replace(self, end=rfc3339(hour_s + HOUR_S)).cost_query(now_s=now_s)

    def _month(self, month: str) -> str:
        if self.start or self.end or self.last:
            problem = "cannot stand beside a beginning, an end or a span."
            raise InvalidParametersError([refused("month", month, problem, "Leave either out.")])
        if len(month) != len("2026-11"):
            raise InvalidParametersError([refused("month", month, "is not a month.", "Write it as 2026-11.")])
        return month


_DECIMALS = len(str(UNITS_A_USD)) - 1


class Labels:
    """Computes the row values of one payer's lines in a month. Mutable: it remembers tiers."""

    def __init__(self, query: CostQuery, book: PriceBook, payer_id: str) -> None:
        columns = query.usage.group_by
        self._query, self._book, self._payer_id = query, book, payer_id
        self._of_key: dict[str, list[Callable[[UsageKey], str]]] = {}
        self._tier_at = columns.index("tier") if "tier" in columns else None
        self._tiers: dict[tuple[str, str, int, int | None], str] = {}

    def of(self, rated: RatedLine, region: str = "", *, booked_s: int | None = None) -> Values:
        """Values of the group columns for a region's rated line; a correction has the hour that books it."""
        of_key = self._of_key.get(region)
        if of_key is None:
            more: dict[GroupColumn, Callable[[UsageKey], str]] = {
                "tier": lambda _: "",
                "payer": lambda _: self._payer_id,
            }
            of_key = self._of_key[region] = value_functions(self._query.usage, region, more)
        line = rated.line
        key = UsageKey(
            line.hour_s if booked_s is None else booked_s,
            line.account_id,
            line.usage_type,
            line.service,
            line.from_location,
            line.to_location,
            None if booked_s is None else line.hour_s,
        )
        values = tuple([value(key) for value in of_key])
        if self._tier_at is None:
            return values
        return (*values[: self._tier_at], self.tier(rated), *values[self._tier_at + 1 :])

    def tier(self, rated: RatedLine) -> str:
        """Name of a line's tier, such as `tier 2 (10240-51200 GB)`, or why the line has no tier."""
        if rated.state is not PriceState.PRICED:
            return rated.state.value
        if rated.allowance:
            return f"free ({rated.allowance})"
        named = (rated.sku, rated.rate_code, rated.tier_from_bytes, rated.tier_to_bytes)
        known = self._tiers.get(named)
        if known is None:
            known = self._tiers[named] = _tier_name(self._book, rated)
        return known


def gb_text(size: int) -> str:
    """A number of bytes in GB of 2^30, without trailing zeros: `10240`, `0.5`."""
    text = usd_text(quantity_of(size), decimals=_DECIMALS)
    return text.rstrip("0").rstrip(".")


def _tier_name(book: PriceBook, rated: RatedLine) -> str:
    named = (rated.tier_from_bytes, rated.tier_to_bytes, rated.rate_code)
    # The version is not found by the line's hour, because a sum of days has no hour.
    tiers = next(
        version.tiers
        for version in reversed(book.by_sku[rated.sku].versions)
        if any((tier.from_bytes, tier.to_bytes, tier.rate_code) == named for tier in version.tiers)
    )
    if len(tiers) == 1:
        return "flat"
    place = sum(tier.from_bytes <= rated.tier_from_bytes for tier in tiers)
    first = gb_text(rated.tier_from_bytes)
    if rated.tier_to_bytes is None:
        return f"tier {place} ({first}+ GB)"
    return f"tier {place} ({first}-{gb_text(rated.tier_to_bytes)} GB)"


def entries_of(query: CostQuery, book: PriceBook, usage: MergedUsage, rater: Rater) -> Iterator[Entry]:
    """Entries for a payer's month, or for some of the payer's accounts, to be added to rows.

    The rater knows the positions of all of the payer's accounts together.

    Raises:
        UnavailableError: A region does not respond.
    """
    parts = {each.region: usage.of_region(each) for each in usage.regions} if query.by_region else {"": usage}
    labels = Labels(query, book, usage.payer_id)
    from_s, to_s = query.usage.from_s, query.usage.to_s

    def needs(region: str, line: UsageLine) -> bool:
        within = line.hour_s < to_s and line.hour_s + DAY_S > from_s
        return within and query.takes_region(region) and query.takes(line)

    for region, rated in rated_by_days(rater, parts, needs=needs, splits=query.usage.splits_day):
        # If a day is rated by the hour, it has lines outside the query.
        if query.covers(rated.line.hour_s) and query.takes_region(region) and query.takes(rated.line):
            yield Entry(labels.of(rated, region), rated)
