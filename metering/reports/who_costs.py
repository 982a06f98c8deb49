"""Costs of causes by the lines of a report of costs: method metering:bytes-by-line:1.

A line is a usage key of a region on one day, or in one hour where a price changes within the day. Each
part of a line costs its bytes times the line's price. If a tier begins or an allowance ends within the hour of a line,
its parts share its exact cost in proportion to their bytes.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from fractions import Fraction
from typing import TYPE_CHECKING, NamedTuple

from metering.billing.rating.payer_prices import PriceState
from metering.errors import LedgerCorruptError
from metering.hours import parse_hour
from metering.units import DAY_S

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from metering.reports.costs.rows import Entry
    from metering.reports.query import GroupColumn

METHOD = "metering:bytes-by-line:1"
"""Name of the method by which parts of a line get their cost."""
LINE_COLUMNS: tuple[GroupColumn, ...] = ("region", "account_id", "service", "usage_type", "from", "to")


class LineKey(NamedTuple):
    """A line: `begin_s` is the beginning of its day or hour; a correction is `late`, and booked then."""

    region: str
    account_id: str
    service: str
    usage_type: str
    from_location: str
    to_location: str
    late: bool
    begin_s: int


class Cost(NamedTuple):
    """Cost of some bytes.

    Attributes:
        exact: Exact cost (L0) of those with a price.
        unpriced: Bytes without a price.
        priced: Whether any bytes have a price.
    """

    exact: Fraction = Fraction()
    unpriced: int = 0
    priced: bool = False

    @property
    def known(self) -> bool:
        """Whether the cost is known: some bytes have a price, or there are only bytes that are not sold."""
        return self.priced or not self.unpriced

    def plus(self, other: Cost) -> Cost:
        return Cost(self.exact + other.exact, self.unpriced + other.unpriced, self.priced or other.priced)

    def less(self, other: Cost) -> Cost:
        return Cost(self.exact - other.exact, self.unpriced - other.unpriced, self.priced)


NO_COST = Cost()


class Rate(NamedTuple):
    """Shares of each byte of a line.

    Attributes:
        exact: Exact cost (L0).
        unpriced: Bytes without a price: 1 or, where a line is mixed, less.
        priced: Whether the line has a price.
    """

    exact: Fraction
    unpriced: Fraction
    priced: bool

    def cost(self, size: int) -> Cost:
        """Cost of a part of this many bytes."""
        return Cost(size * self.exact, int(size * self.unpriced), self.priced)


class Lines:
    """Lines of some usage with their costs. Mutable."""

    def __init__(self) -> None:
        self._sizes: dict[LineKey, Counter[tuple[PriceState, int]]] = defaultdict(Counter)
        self._hours_s: tuple[int, int] = (0, 0)
        self._numbers: dict[Rate, int] = {}
        self.rates: list[Rate] = []

    def add(self, entries: Iterable[Entry]) -> None:
        """Add rated lines, grouped by `LINE_COLUMNS` and the day or hour in UTC. Each is at one price."""
        for values, rated, late in entries:
            region, account_id, service, usage_type, from_location, to_location, label = values
            key = LineKey(region, account_id, service, usage_type, from_location, to_location, late, _begin_s(label))
            self._sizes[key][rated.state, rated.price] += rated.line.bytes

    def cut_days_s(self) -> tuple[int, int] | None:
        """Beginning of the first and end of the last day within which the price of a line changes; None without any."""
        days = [key.begin_s for key, sizes in self._sizes.items() if len(sizes) > 1 and not key.late]
        return (min(days), max(days) + DAY_S) if days else None

    def take_hours(self, from_s: int, to_s: int, entries: Iterable[Entry]) -> None:
        """Replace the lines of days by lines of hours, in a range of days."""
        for key in [key for key in self._sizes if from_s <= key.begin_s < to_s]:
            del self._sizes[key]
        self._hours_s = from_s, to_s
        self.add(entries)

    def by_hour(self, day_s: int) -> bool:
        """Whether the lines of a day are those of its hours."""
        return self._hours_s[0] <= day_s < self._hours_s[1]

    def number(self, key: LineKey) -> int:
        """Number of a line's rate in `rates`.

        Raises:
            LedgerCorruptError: There is no such line, although it has a part.
        """
        if key not in self._sizes:
            raise LedgerCorruptError(f"a cause is a part of a line without usage: {', '.join(map(str, key))}")
        rate = _rate(self._sizes[key])
        if rate not in self._numbers:
            self._numbers[rate] = len(self.rates)
            self.rates.append(rate)
        return self._numbers[rate]

    def costs(self) -> Iterator[tuple[LineKey, Cost]]:
        """Each line with its cost."""
        for key, sizes in self._sizes.items():
            yield key, _cost(sizes)


def _cost(sizes: Mapping[tuple[PriceState, int], int]) -> Cost:
    exact = sum(size * price for (state, price), size in sizes.items() if state is PriceState.PRICED)
    unpriced = sum(size for (state, _), size in sizes.items() if state is PriceState.UNPRICED)
    return Cost(Fraction(exact), unpriced, any(state is PriceState.PRICED for state, _ in sizes))


def _rate(sizes: Mapping[tuple[PriceState, int], int]) -> Rate:
    # Of one price, a line without bytes has the rate of any other.
    even = dict.fromkeys(sizes, 1) if len(sizes) == 1 else sizes
    cost, whole = _cost(even), sum(even.values())
    return Rate(cost.exact / whole if whole else Fraction(), Fraction(cost.unpriced, whole or 1), cost.priced)


def _begin_s(label: str) -> int:
    return parse_hour(label[:13] if "T" in label else f"{label}T00")


def shown_units(exact: list[Fraction], unit: int) -> list[int]:
    """Costs in units of `unit`, rounded by the largest remainder: they add up to their sum, rounded half up.

    Ties go to the first.
    """
    units = [cost / unit for cost in exact]
    floors = [cost.numerator // cost.denominator for cost in units]
    whole = sum(units, Fraction())
    left = (2 * whole.numerator + whole.denominator) // (2 * whole.denominator) - sum(floors)
    order = sorted(range(len(units)), key=lambda place: (floors[place] - units[place], place))
    for place in order[:left]:
        floors[place] += 1
    return floors
