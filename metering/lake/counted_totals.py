"""Totals of lake files, counted from their rows: where no objects with totals lie beside them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from metering.stores.bucket import hour_of_lake_key

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from metering.lake.ports import LakeReader, UsageRows
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

    def summed(self, files: Sequence[LakeFile]) -> UsageRows:
        hour_s = (hour_of_lake_key(files[0].key) if files else 0) or 0
        return self._lake.hour_usage(hour_s, [file.source(hour_s) for file in files])
