"""Markers that commits wrote down in S3 (P50): in their staging objects, and beside lake files."""

from __future__ import annotations

import io
from collections import defaultdict
from typing import TYPE_CHECKING

from metering.lake.parquet import hour_rows
from metering.ledger.markers import MarkerLine, decode_lines
from metering.stores.objects import MARKERS_PREFIX, STAGING_PREFIX

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable


def parquet_markers(body: bytes) -> bytes:
    """Markers in a staging object of production."""
    return hour_rows.staged_markers(hour_rows.RowGroups(body))


def written_down(
    keys: Iterable[str], read: Callable[[str], bytes], markers_in: Callable[[bytes], bytes] = parquet_markers
) -> dict[str, list[tuple[str, MarkerLine]]]:
    """Lines by batch id, each with the key of its object, which is in staging or beside a lake file."""
    found: dict[str, list[tuple[str, MarkerLine]]] = defaultdict(list)
    for key in keys:
        if key.startswith((MARKERS_PREFIX, STAGING_PREFIX)):
            lines = read(key) if key.startswith(MARKERS_PREFIX) else markers_in(read(key))
            for line in decode_lines(io.BytesIO(lines), key):
                found[line.marker.batch_id].append((key, line))
    return found
