"""Reads a region's causes of a month, and rewrites them by savings rules."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pyarrow.compute as pc

from metering.hours import month_bounds_s
from metering.lake.parquet.reader import Sums, halves_of
from metering.lake.ports import RowQuery
from metering.reports.savings.rewriting import Networks, Rewriting, Row
from metering.units import DAY_S

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from metering.reports.who_sums import CauseSource

_FIELDS = Row._fields[:-1]
# Zones are learned from all rows, those of free traffic, too.
_OF_ZONES = ("cause", "path", "direction", "from_location", "to_location", "basis")
_EMPTY = Row(0, "", "", "", "", "", "", "", "", "", "", "", 0)


def rewrite(source: CauseSource, month: str, rewriting: Rewriting) -> None:
    """Rewrite the causes of a month. Corrections of other months are left out.

    Raises:
        ObjectMissingError: An object was replaced during the read: read the index again.
        ObjectDamagedError: An object cannot be read.
    """
    first_s, after_s = month_bounds_s(month)
    days = sorted(day_s for day_s in source.index.days if first_s <= day_s < after_s)
    networks = Networks(lambda cause, hour_s: source.names(hour_s - hour_s % DAY_S).at(cause, hour_s))
    for day_s in days:
        for row in _rows(source, day_s, _OF_ZONES):
            for hour_s in (day_s, *source.names(day_s).cuts(row.cause)):
                networks.learn(row._replace(hour_s=hour_s))
    where = {"usage_type": rewriting.usage_types(networks)}
    for day_s in days:
        for row in _rows(source, day_s, _FIELDS, where):
            rewriting.take(row, networks)


def _rows(
    source: CauseSource, day_s: int, fields: Sequence[str], where: Mapping[str, frozenset[str]] | None = None
) -> Iterator[Row]:
    """Sums of a day by some fields of a row; the other fields are empty."""
    query = RowQuery(columns=tuple(name.removesuffix("_location").removesuffix("_s") for name in fields))
    sums = Sums(query)
    for table in source.tables(day_s, tuple({*query.columns, "hour", "own_hour", "bytes"}), where):
        sums.add(halves_of(table.filter(pc.equal(table.column("hour"), table.column("own_hour"))), query))
    for group, total in sums.groups():
        given: dict[str, Any] = dict(zip(fields, group, strict=True))
        yield _EMPTY._replace(**given, bytes=total.bytes)
