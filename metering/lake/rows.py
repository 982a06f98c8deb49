"""What a reader of the lake sees: the sources of an hour, and how their rows are filtered and grouped.

A source is a whole lake file, or the part of a staging object that is booked in one hour.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from metering.units import HOUR_S
from metering.usage.totals import Total, UsageKey

if TYPE_CHECKING:
    from collections.abc import Mapping


# Columns of a lake file, in order (docs/contract.md). Staging objects have `booked_hour` besides.
LAKE_COLUMNS = (
    "account_id",
    "service",
    "resource_id",
    "direction",
    "from_location",
    "to_location",
    "usage_type",
    "bytes",
    "start_time",
    "end_time",
    "batch_id",
)
# The hour of a record's own start, epoch seconds: a column that readers can group by, though no file holds it.
OWN_HOUR = "own_hour"
# What a usage key is made of, besides its hour.
USAGE_COLUMNS = ("account_id", "usage_type", "service", "from_location", "to_location", OWN_HOUR)

# A group's values, in the order of the columns that were asked for: strings, and whole numbers for `own_hour`.
Group = tuple[str | int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class TimeSlice:
    """Rows whose time lies in `[from_s, to_s)`, epoch seconds.

    A row's time is its start. What is booked in another hour than its own (a correction of a closed month) counts at
    the beginning of the hour that it is booked in, so that slices that meet hold each row once.
    """

    from_s: int
    to_s: int

    def parts(self, hour_s: int) -> bool:
        """Whether it takes a part of the rows of a booked hour, and not all of them."""
        return hour_s < self.from_s < hour_s + HOUR_S or hour_s < self.to_s < hour_s + HOUR_S

    def takes_corrections(self, hour_s: int) -> bool:
        """Whether what is booked in an hour that is not its own is taken."""
        return self.from_s <= hour_s < self.to_s

    def takes(self, start_s: int, hour_s: int) -> bool:
        """Whether a row that starts then and is booked in `hour_s` is taken."""
        own = hour_s <= start_s < hour_s + HOUR_S
        return self.from_s <= start_s < self.to_s if own else self.takes_corrections(hour_s)


@dataclass(frozen=True, slots=True, kw_only=True)
class RowQuery:
    """What to sum.

    Attributes:
        columns: Lake columns or `own_hour` to group by, in order; none gives one total.
        where: Column -> the values that a row may have; pushed down to row groups where they are sorted by it.
        times: Of hours that it cuts, only the rows that it takes; None for all rows of the sources.
    """

    columns: tuple[str, ...] = ()
    where: tuple[tuple[str, frozenset[str]], ...] = ()
    times: TimeSlice | None = None


USAGE_QUERY = RowQuery(columns=USAGE_COLUMNS)
BATCH_QUERY = RowQuery(columns=("batch_id",))


def usage_of(hour_s: int, groups: Mapping[Group, Total]) -> dict[UsageKey, Total]:
    """Usage of a booked hour from groups by `USAGE_COLUMNS`; rows of another own hour are corrections of it."""
    usage: dict[UsageKey, Total] = {}
    for (account_id, usage_type, service, from_location, to_location, own_hour_s), total in groups.items():
        corrects_s = None if own_hour_s == hour_s else int(own_hour_s)
        key = UsageKey(
            hour_s, str(account_id), str(usage_type), str(service), str(from_location), str(to_location), corrects_s
        )
        usage[key] = total
    return usage


def batches_of(groups: Mapping[Group, Total]) -> dict[str, Total]:
    """Totals by batch id from the groups of `BATCH_QUERY`."""
    return {str(batch_id): total for (batch_id,), total in groups.items()}
