"""Lake files of plain rows, for simulations and fast tests. A lake file looks like a staging object of one hour."""

from __future__ import annotations

import json
from contextlib import contextmanager
from typing import TYPE_CHECKING

from metering.adapters.memory.rows import PLAIN_SERVICE, PlainRowCodec
from metering.hours import hour_of
from metering.lake.ports import MergedFile
from metering.lake.rows import OWN_HOUR
from metering.usage.totals import ZERO, Total

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from metering.adapters.memory.rows import PlainStagedRow
    from metering.lake.rows import Group, RowQuery
    from metering.ledger.row_sources import RowSource
    from metering.stores.objects import ObjectStore


class PlainLakeWriter:
    """`LakeWriter` of plain rows."""

    def __init__(self, objects: ObjectStore) -> None:
        self._objects = objects
        self._codec = PlainRowCodec()

    @contextmanager
    def merge(self, hour_s: int, staging_keys: Sequence[str]) -> Iterator[MergedFile]:
        rows = [
            row
            for key in staging_keys
            for row in self._codec.decode(self._objects.get(key))
            if row.booked_hour_s == hour_s
        ]
        rows.sort(key=lambda staged: (staged.row, staged.batch_id))
        content = json.dumps(rows, separators=(",", ":")).encode()
        yield MergedFile(content=content, rows=len(rows), bytes=sum(staged.row.bytes for staged in rows))


class PlainLakeReader:
    """`LakeReader` of plain rows."""

    def __init__(self, objects: ObjectStore) -> None:
        self._objects = objects
        self._codec = PlainRowCodec()

    def totals(self, sources: Sequence[RowSource], query: RowQuery) -> dict[Group, Total]:
        totals: dict[Group, Total] = {}
        for source in sources:
            for staged in self.rows(source):
                if _is_asked_for(staged, source.hour_s, query):
                    group = tuple(_value(staged, column) for column in query.columns)
                    totals[group] = totals.get(group, ZERO).plus(Total(staged.row.bytes, 1))
        return totals

    def rows(self, source: RowSource) -> list[PlainStagedRow]:
        """Rows of a row source."""
        return [row for row in self._codec.decode(self._objects.get(source.key)) if row.booked_hour_s == source.hour_s]


def _is_asked_for(staged: PlainStagedRow, hour_s: int, query: RowQuery) -> bool:
    if query.times is not None and query.times.parts(hour_s) and not query.times.takes(staged.row.start_s, hour_s):
        return False
    return all(_value(staged, column) in allowed for column, allowed in query.where)


def _value(staged: PlainStagedRow, column: str) -> str | int:
    if column == OWN_HOUR:
        return hour_of(staged.row.start_s)
    if column == "batch_id":
        return staged.batch_id
    if column == "service":
        return PLAIN_SERVICE
    return str(getattr(staged.row, column))
