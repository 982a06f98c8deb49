"""A reader of rows for which a test defines only the totals."""

from __future__ import annotations

from typing import TYPE_CHECKING

from metering.lake.ports import USAGE_QUERY, Group, RowQuery, UsageRows, in_order, usage_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from metering.ledger.booked_hours import RowSource
    from metering.usage.totals import Total


class TotalsAlone:
    """`LakeReader` of a class that has `totals`. Batches must not be read."""

    def totals(self, sources: Sequence[RowSource], query: RowQuery) -> dict[Group, Total]:
        raise NotImplementedError

    def groups(self, sources: Sequence[RowSource], query: RowQuery) -> Iterator[tuple[Group, Total]]:
        yield from self.totals(sources, query).items()

    def parts(self, sources: Sequence[RowSource], query: RowQuery) -> Iterator[tuple[Group, Total]]:
        yield from self.groups(sources, query)

    def hour_usage(
        self,
        hour_s: int,
        sources: Sequence[RowSource],
        *,
        batches: Callable[[Iterator[tuple[Group, Total]]], None] | None = None,
    ) -> UsageRows:
        assert batches is None
        return in_order(usage_of(hour_s, self.totals(sources, USAGE_QUERY)))
