"""Usage of a billing month as rating needs it: merged over regions, by day first, and by hour only where it matters."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, Protocol, runtime_checkable

from metering.usage.totals import Service, UsageKind, UsageType

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    HoursDone = Callable[[str, int, int], None]
    """Told a region, how many of its hours are read, and how many there are."""


class Sold(NamedTuple):
    """What a price is found by."""

    service: Service
    usage_type: UsageType


LineKey = tuple[int, str, Service, UsageType, str, str]
"""Hour, account, service, usage type, from and to."""


class UsageLine(NamedTuple):
    """Usage of one key in one hour, or in a day if that is the grain. The order of its fields is the order of rating.

    Attributes:
        hour_s: The hour of use, epoch seconds: of a correction its own hour, not the one that books it.
    """

    hour_s: int
    account_id: str
    service: Service
    usage_type: UsageType
    from_location: str
    to_location: str
    bytes: int

    @property
    def key(self) -> LineKey:
        """Everything but its bytes."""
        return self[:6]

    @property
    def kind(self) -> UsageKind:
        """Its kind of usage."""
        return UsageKind(self.usage_type, self.service, self.from_location, self.to_location)


class Correction(NamedTuple):
    """Usage of an earlier month that is booked in this one: it came after that month was closed.

    Attributes:
        payer_id: Who pays for it: the account's payer in the hour of use.
        month: The month of use, `2026-10`.
        line: Its hour is the hour of use.
    """

    payer_id: str
    month: str
    line: UsageLine


class Late(NamedTuple):
    """A correction as one region's ledger has it.

    Attributes:
        booked_s: The hour that books it.
        line: Its hour is the hour of use.
    """

    booked_s: int
    line: UsageLine


class RegionMonth(Protocol):
    """Usage that is booked in one month of one region's ledger.

    Every call sees the same rows, whatever comes meanwhile.

    The canary is left out. Corrections of other months stand apart: only `corrections` has them.
    """

    @property
    def region(self) -> str: ...

    @property
    def month(self) -> str:
        """`2026-11`."""
        ...

    @property
    def digest(self) -> str:
        """Hex SHA-256 of the closed month's manifest; empty while the month is not closed."""
        ...

    def accounts(self) -> Iterator[str]:
        """Accounts with any usage or correction, in order, each once."""
        ...

    def day_lines(self, accounts: frozenset[str] | None = None) -> Iterator[UsageLine]:
        """Lines by the day, in any order; `hour_s` is the first hour of the day. None: of all accounts.

        Raises:
            UnavailableError: The region gives no answer.
        """
        ...

    def hour_lines(
        self,
        accounts: frozenset[str] | None = None,
        *,
        day_s: int | None = None,
        sold: frozenset[Sold] | None = None,
    ) -> Iterator[UsageLine]:
        """Lines by the hour, in the order of rating: hour by hour. Of one day, only that day is read.

        Raises:
            UnavailableError: The region gives no answer.
        """
        ...

    def late(self, accounts: frozenset[str] | None = None) -> Iterator[Late]:
        """Usage of earlier months that is booked in this one; one line for each key and hour that books it."""
        ...


class PayerUsage(Protocol):
    """One payer's usage of one month over all its accounts and all regions, corrections of other months left out.

    An account's hours count for the payer that it belongs to in that hour.
    """

    @property
    def month(self) -> str:
        """`2026-11`."""
        ...

    def days(self) -> Mapping[Sold, Mapping[int, int]]:
        """Bytes by day (epoch second of its first hour). Few: what is sold times the days of a month."""
        ...

    def lines_of(self, sold: frozenset[Sold], day_s: int) -> Iterator[UsageLine]:
        """Lines of one day by the hour, in the order of rating; nothing of other days is read."""
        ...

    def lines(self) -> Iterator[UsageLine]:
        """All lines of the month by the hour, in any order, streamed."""
        ...


@runtime_checkable
class HourlyUsage(PayerUsage, Protocol):
    """Usage that has sums of hours without reading lines: then only the lines of an hour are read to find a cut."""

    def hours(self, sold: frozenset[Sold], day_s: int) -> Mapping[int, int]:
        """Bytes by hour (epoch seconds) of one day, of all that is sold together."""
        ...

    def lines_of_hour(self, sold: frozenset[Sold], hour_s: int) -> Iterator[UsageLine]:
        """Lines of one hour, in the order of rating."""
        ...
