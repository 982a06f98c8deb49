"""`StagedUsage` in production: what a staging object's rows add up to."""

from __future__ import annotations

from io import BytesIO
from itertools import islice
from typing import TYPE_CHECKING

from metering.lake.parquet.hour_rows import TEXT_COLUMNS, decoding
from metering.lake.parquet.row_groups import RowGroups
from metering.lake.parquet.schema import BOOKED_HOUR
from metering.lake.parquet.sums import Sums, halves_of
from metering.lake.rows import USAGE_COLUMNS, RowQuery
from metering.usage.totals import UsageKey

if TYPE_CHECKING:
    from collections.abc import Iterator

    from metering.stores.objects import ObjectStore
    from metering.usage.totals import Total

_QUERY = RowQuery(columns=(BOOKED_HOUR, *USAGE_COLUMNS))
_COLUMNS = ("account_id", "service", "from_location", "to_location", "usage_type", "bytes", "start_time", BOOKED_HOUR)
_ENCODED = [column for column in _COLUMNS if column in TEXT_COLUMNS]
# Rows that are read at once, about: most objects have fewer.
_ROWS_AT_ONCE = 1_000_000


class ParquetStagedUsage:
    """Sums staging objects, each read whole by one GET.

    Args:
        objects: Store of the staging objects.
        rows_at_once: Rows that are decoded at once, so that memory does not grow with the object's.
    """

    def __init__(self, objects: ObjectStore, *, rows_at_once: int = _ROWS_AT_ONCE) -> None:
        self._objects = objects
        self._rows_at_once = rows_at_once

    def usage(self, staging_key: str) -> dict[UsageKey, Total]:
        body = BytesIO(self._objects.get(staging_key))
        sums = Sums(_QUERY)
        with decoding(staging_key):
            file = RowGroups(body, _ENCODED)
            for groups in self._parts(file):
                sums.add(halves_of(file.read_some(groups, _COLUMNS), _QUERY))
            totals = sums.totals()
        return {
            UsageKey(
                int(booked_s),
                str(account_id),
                str(usage_type),
                str(service),
                str(from_location),
                str(to_location),
                None if own_s == booked_s else int(own_s),
            ): total
            for (booked_s, account_id, usage_type, service, from_location, to_location, own_s), total in totals.items()
        }

    def _parts(self, file: RowGroups) -> Iterator[list[int]]:
        """Numbers of the row groups that are read at once."""
        metadata = file.metadata
        if metadata.num_row_groups == 0:
            return
        a_group = max(1, metadata.num_rows // metadata.num_row_groups)
        numbers = iter(range(metadata.num_row_groups))
        while part := list(islice(numbers, max(1, self._rows_at_once // a_group))):
            yield part
