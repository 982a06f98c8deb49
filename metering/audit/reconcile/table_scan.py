"""The limit of a scan of a table, and usage of one hour. The reconciler and repairs use them, never the hot path.

Each item is read at a moment of its own. The caller must make sure that the figures are comparable.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

from metering.audit.reconcile.settling import HourUsage, read_accounts
from metering.errors import EarlyEndError
from metering.units import HOUR_S

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from metering.ledger.usage.reading import UsageReading

T = TypeVar("T")

# Items between two calls of the limit.
_LIMIT_EVERY = 1_000


class ScanTooLongError(EarlyEndError):
    """A table is too large for a scan in the remaining time."""


def no_limit() -> None:
    """Set no limit to a scan."""


def survey_hour(reading: UsageReading, hour_s: int, accounts: Iterable[str]) -> HourUsage:
    """Usage items of some accounts in one hour, without a scan."""
    return read_accounts(reading, accounts, from_s=hour_s, to_s=hour_s + HOUR_S).get(hour_s, HourUsage())


def limited(found: Iterable[T], limit: Callable[[], None]) -> Iterator[T]:
    """The same things; the limit is asked now and then."""
    for number, item in enumerate(found):
        if number % _LIMIT_EVERY == 0:
            limit()
        yield item
