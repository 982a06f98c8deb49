"""Lake files of plain rows, for simulations and fast tests. A lake file is like a staging object of one hour."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, cast

from metering.hours import hour_of
from metering.lake.ports import (
    BATCH_QUERY,
    OWN_HOUR,
    USAGE_QUERY,
    Group,
    MergedFile,
    RowQuery,
    UsageRows,
    in_order,
    usage_of,
)
from metering.usage.totals import ZERO, Total, UsageKey
from tests.support.memory.frozen import encode_usage
from tests.support.memory.rows import PlainRow, decode_rows, encode_rows, plain_usage

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Sequence

    from metering.ledger.booked_hours import RowSource
    from metering.stores.objects import ObjectStore


class PlainLake:
    """`LakeWriter`, `LakeReader` and `StagedUsage` of plain rows."""

    def __init__(self, objects: ObjectStore) -> None:
        self._objects = objects

    @contextmanager
    def merge(
        self, hour_s: int, staging_keys: Sequence[str], *, in_part: Collection[str] = frozenset()
    ) -> Iterator[MergedFile]:
        del in_part
        rows = [row for key in staging_keys for row in decode_rows(self._objects.get(key)) if row.booked_s == hour_s]
        summary = encode_usage(in_order(plain_usage(rows)))
        size = sum([row.bytes for row in rows])
        yield MergedFile(content=encode_rows(rows), rows=len(rows), bytes=size, summary=summary)

    def usage(self, staging_key: str) -> dict[UsageKey, Total]:
        return plain_usage(decode_rows(self._objects.get(staging_key)))

    def totals(self, sources: Sequence[RowSource], query: RowQuery) -> dict[Group, Total]:
        totals: dict[Group, Total] = {}
        takes_all = not query.where and query.times is None
        for source in sources:
            for row in decode_rows(self._objects.get(source.key)):
                # A lake file has only rows of one hour. A row of another hour must be visible to the test.
                if source.staged and row.booked_s != source.hour_s:
                    continue
                if takes_all or _is_asked_for(row, source.hour_s, query):
                    group = tuple([_value(row, column) for column in query.columns])
                    size, count = totals.get(group, ZERO)
                    totals[group] = Total(size + row.bytes, count + 1)
        return totals

    def groups(self, sources: Sequence[RowSource], query: RowQuery) -> Iterator[tuple[Group, Total]]:
        return iter(self.totals(sources, query).items())

    def parts(self, sources: Sequence[RowSource], query: RowQuery) -> Iterator[tuple[Group, Total]]:
        return (group for source in sources for group in self.totals([source], query).items())

    def hour_usage(
        self,
        hour_s: int,
        sources: Sequence[RowSource],
        *,
        batches: Callable[[Iterator[tuple[Group, Total]]], None] | None = None,
    ) -> UsageRows:
        if batches is not None:
            for source in sources:
                batches(self.groups([source], BATCH_QUERY))
        return in_order(usage_of(hour_s, self.totals(sources, USAGE_QUERY)))


def _is_asked_for(row: PlainRow, hour_s: int, query: RowQuery) -> bool:
    if query.times is not None and query.times.parts(hour_s) and not query.times.takes(row.start_s, hour_s):
        return False
    return all(_value(row, column) in allowed for column, allowed in query.where)


def _value(row: PlainRow, column: str) -> str | int:
    if column == OWN_HOUR:
        return hour_of(row.start_s)
    return cast("str | int", getattr(row, column))
