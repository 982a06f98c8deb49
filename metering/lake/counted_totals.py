"""Totals of lake files, counted from their rows: where no objects with totals lie beside them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from metering.lake.rows import USAGE_QUERY, usage_of
from metering.lake.usage_digest import in_order
from metering.stores.bucket import hour_of_lake_key

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from metering.lake.ports import LakeReader
    from metering.ledger.booked_hours import LakeFile
    from metering.usage.totals import Total, UsageKey


class CountedTotals:
    """`TotalsReader` that counts rows.

    Args:
        lake: Reads the rows.
    """

    def __init__(self, lake: LakeReader) -> None:
        self._lake = lake

    def of(self, file: LakeFile) -> Iterator[tuple[UsageKey, Total]]:
        yield from self.summed([file])

    def summed(self, files: Sequence[LakeFile]) -> Iterator[tuple[UsageKey, Total]]:
        sources = [file.source(hour_of_lake_key(file.key) or 0) for file in files]
        for hour_s in sorted({source.hour_s for source in sources}):
            ours = [source for source in sources if source.hour_s == hour_s]
            yield from in_order(usage_of(hour_s, self._lake.totals(ours, USAGE_QUERY)))
