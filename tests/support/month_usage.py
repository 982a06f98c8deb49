"""A region's month in memory: usage lines by the hour, in the form for rating."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from metering.billing.usage.months import Accounts, Late, Solds, UsageLine, merged
from metering.units import DAY_S

if TYPE_CHECKING:
    from collections.abc import Iterator


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryMonth:
    """A `RegionMonth`.

    Attributes:
        usage: Lines by the hour, in any order, with keys repeated any number of times.
        late_lines: Corrections, each at its own hour.
        booked_s: The hour that books them.
        digest: Digest of a closed month: any text.
    """

    region: str = "us-east-1"
    month: str = "2026-11"
    usage: tuple[UsageLine, ...] = ()
    late_lines: tuple[UsageLine, ...] = ()
    booked_s: int = 0
    digest: str = ""

    def accounts(self) -> Iterator[str]:
        return iter(sorted({line.account_id for line in (*self.usage, *self.late_lines)}))

    def day_lines(self, accounts: Accounts = None) -> Iterator[UsageLine]:
        by_day = (line._replace(hour_s=_day(line.hour_s)) for line in self._of(self.usage, accounts))
        return merged(sorted(by_day))

    def hour_lines(
        self, accounts: Accounts = None, *, day_s: int | None = None, sold: Solds = None
    ) -> Iterator[UsageLine]:
        return merged(
            sorted(
                line
                for line in self._of(self.usage, accounts)
                if (day_s is None or _day(line.hour_s) == day_s) and (sold is None or line.sold in sold)
            )
        )

    def late(self, accounts: Accounts = None) -> Iterator[Late]:
        return (Late(self.booked_s or line.hour_s, line) for line in self._of(self.late_lines, accounts))

    @staticmethod
    def _of(lines: tuple[UsageLine, ...], accounts: Accounts) -> Iterator[UsageLine]:
        return (line for line in lines if accounts is None or line.account_id in accounts)


def _day(hour_s: int) -> int:
    return hour_s - hour_s % DAY_S
