"""Columns of the lake, and queries that filter, group and sum its rows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

from metering.units import HOUR_S
from metering.usage.totals import Total, UsageKey

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from metering.usage.totals import Service, UsageType


# Columns of a lake file, in order (docs/contract.md). Staging objects also have `booked_hour`.
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
# The hour of a record's own start, epoch seconds. Readers can group by this column although no file holds it.
OWN_HOUR = "own_hour"
# Columns that make up a usage key, apart from its booked hour.
USAGE_COLUMNS = ("account_id", "usage_type", "service", "from_location", "to_location", OWN_HOUR)

# A commit with so few rows in an hour is mostly of other hours, or small as a whole: it is read in part.
FEW_ROWS = 5_000

# Values of a group, in the order of the query's columns: strings, and an int for `own_hour`.
Group = tuple[str | int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class TimeSlice:
    """Rows whose time lies in `[from_s, to_s)`, epoch seconds.

    The time of a row is its start. A correction (a row booked in another hour than its own) has the start of its booked
    hour as its time, so adjacent slices hold each row once.
    """

    from_s: int
    to_s: int

    def parts(self, hour_s: int) -> bool:
        """Whether the slice begins or ends inside a booked hour, so that it may take some rows of it and not others."""
        return hour_s < self.from_s < hour_s + HOUR_S or hour_s < self.to_s < hour_s + HOUR_S

    def takes_corrections(self, hour_s: int) -> bool:
        """Whether the slice takes the corrections that are booked in an hour."""
        return self.from_s <= hour_s < self.to_s

    def takes(self, start_s: int, hour_s: int) -> bool:
        """Whether the slice takes a row that starts at `start_s` and is booked in `hour_s`."""
        own = hour_s <= start_s < hour_s + HOUR_S
        return self.from_s <= start_s < self.to_s if own else self.takes_corrections(hour_s)


@dataclass(frozen=True, slots=True, kw_only=True)
class RowQuery:
    """A sum over rows, by groups.

    Attributes:
        columns: Lake columns or `own_hour` to group by, in order; without any there is one total.
        where: Column and the values that a row may have in it. Row groups that cannot match are skipped.
        times: Restricts the hours that it cuts to the rows that it takes; None for all rows of the sources.
    """

    columns: tuple[str, ...] = ()
    where: tuple[tuple[str, frozenset[str]], ...] = ()
    times: TimeSlice | None = None


USAGE_QUERY = RowQuery(columns=USAGE_COLUMNS)
BATCH_QUERY = RowQuery(columns=("batch_id",))


def usage_of(hour_s: int, groups: Mapping[Group, Total]) -> dict[UsageKey, Total]:
    """Usage of a booked hour from the groups of `USAGE_QUERY`. Rows with another own hour are corrections."""
    return dict(usage_in(hour_s, groups.items()))


def usage_in(hour_s: int, groups: Iterable[tuple[Group, Total]]) -> Iterator[tuple[UsageKey, Total]]:
    """The same, one usage key after the other."""
    rows = cast("Iterable[tuple[tuple[str, UsageType, Service, str, str, int], Total]]", groups)  # its columns
    for (account_id, usage_type, service, from_location, to_location, own_hour_s), total in rows:
        corrects_s = None if own_hour_s == hour_s else own_hour_s
        yield UsageKey(hour_s, account_id, usage_type, service, from_location, to_location, corrects_s), total


def batches_of(groups: Mapping[Group, Total]) -> dict[str, Total]:
    """Totals by batch id from the groups of `BATCH_QUERY`."""
    return {str(batch_id): total for (batch_id,), total in groups.items()}
