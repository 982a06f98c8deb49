"""Markers that commits wrote down in S3 (P50): in their staging objects, and beside lake files."""

from __future__ import annotations

import io
from collections import defaultdict
from typing import TYPE_CHECKING

import pyarrow.parquet as pq

from metering.lake.parquet import hour_rows
from metering.ledger.markers import MarkerLine, decode_lines
from metering.stores.objects import MARKERS_PREFIX, STAGING_PREFIX

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from tests.support.memory.objects import MemoryObjectStore


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


def without_markers(body: bytes) -> bytes:
    """A staging object of production as an earlier release wrote it."""
    file, sink = pq.ParquetFile(io.BytesIO(body)), io.BytesIO()
    with pq.ParquetWriter(sink, file.schema_arrow.remove_metadata(), store_schema=False) as writer:
        for group in range(file.metadata.num_row_groups):
            writer.write_table(file.read_row_group(group).replace_schema_metadata())
    return sink.getvalue()


def forget_markers(objects: MemoryObjectStore, strip: Callable[[bytes], bytes] = without_markers) -> None:
    """Remove the markers from S3, as if an earlier release had made all commits; `strip` changes staging objects."""
    for key in objects.keys(MARKERS_PREFIX):
        objects.remove(key)
    for key in objects.keys(STAGING_PREFIX):
        objects.upload(key, strip(objects.peek(key) or b""))
